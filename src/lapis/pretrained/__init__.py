"""Official weights of the field's models, one file a family, found by module name.

A family says which published files it knows (`OFFICIAL`), and reads weights (`recognises`, `build`) or whole folders
(`recognises_folder`, `from_folder`). The hub asks each in turn; there is no list to edit.
"""
