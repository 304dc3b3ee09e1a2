"""Input and output: files, image formats, folders and archives of images, and the sample photograph."""
