"""The browser demo: a web page that runs a model.

`page/` has the page, `facts` the data that it needs about a model, `runtime` gets ONNX Runtime Web, `site` writes the
folder, and `serve` is a web server for it. `commands.demo` exports the model and calls these.
"""
