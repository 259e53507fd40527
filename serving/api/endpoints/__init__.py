"""The routes: images on request, images by URL, models, health."""
