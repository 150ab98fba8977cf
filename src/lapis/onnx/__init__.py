"""Models as ONNX: graphs of both towers with all that is done to sound inside, and ONNX Runtime as an `Embedder`."""
