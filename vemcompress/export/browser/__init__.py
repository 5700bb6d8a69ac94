"""A demo for browsers: the page (`page/`), what it has to know of a model (`facts`), ONNX Runtime Web beside it
(`runtime`), the folder of all of these (`site`), and a web server for it (`serve`). How a model gets here is
`commands.demo`'s business."""
