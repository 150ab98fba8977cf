"""The commands `lapis data ...`, a file each. Each imports what it needs when it runs."""

from cyclopts import App

from lapis.cli_data import bench, blacklist, inspect, listing, mix, prepare, rewrite, translate, verify

app = App(name="data", help="List, prepare, look through, translate and mix training data.")

app.command(listing.list_corpora, name="list")
app.command(prepare.prepare)
app.command(inspect.inspect)
app.command(mix.mix)
app.command(bench.bench)
app.command(verify.verify)
app.command(blacklist.blacklist)
app.command(translate.translate)
app.command(rewrite.rewrite)
