"""Bytes and images in and out: files, image formats, folders and archives of images, and the sample."""
