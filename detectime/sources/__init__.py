"""Where frames come from: see `contract` for what a source is."""

from __future__ import annotations

from detectime.config import Config
from detectime.sources import contract
from detectime.sources.contract import Source
from detectime.storage import urls


def open_source(config: Config) -> Source:
    """Return the source that a configuration describes.

    Raises
    ------
    SourceError
        If what its scheme or its kind needs is not installed, or if archives or videos lie in a bucket.
    """
    images, kind = config.data.images, config.data.source
    path = urls.strip_file_scheme(images)
    exif, max_pixels = config.detection.exif, config.detection.max_pixels
    if kind == "videos" or (kind is None and contract.is_video(images)):
        from detectime.sources.videos import VideoSource

        return VideoSource(path, exif, max_pixels)
    from detectime.sources import archive

    found = archive.find_archives(path) if kind is None else archive.FoundArchives()
    are_archives = kind == "archives" or found.are_the_source
    if urls.is_remote(images):
        if are_archives:
            raise contract.SourceError(f"{images}: archives cannot be read in a bucket; mount it, or bring them here")
        from detectime.sources.bucket import BucketSource

        return BucketSource(images, exif, max_pixels)
    if are_archives:
        return archive.ArchiveSource(path, exif, max_pixels)
    from detectime.sources.folder import FolderSource

    return FolderSource(path, exif, max_pixels, found.notes)
