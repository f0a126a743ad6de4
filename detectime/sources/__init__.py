"""Sources of frames: see `contract` for what a source is."""

from __future__ import annotations

from detectime.sources.contract import Source, SourceError
from detectime.storage import urls

__all__ = ["are_videos", "open_source"]


def open_source(images: str, source_type: str | None = None) -> Source:
    """Open the source that frames are read from.

    Parameters
    ----------
    images
        A folder, an archive or a folder of archives, a video or a folder of videos, or a URL such as
        ``s3://bucket/folder``.
    source_type
        ``folder``, ``archives`` or ``videos``; None: recognised by the name, and archives also by a folder that holds
        some and no folders.

    Raises
    ------
    SourceError
        If a package that it needs is not installed, or if archives or videos lie in a bucket.

    Examples
    --------
    >>> from detectime import paths
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> type(source).__name__, sum(1 for _ in source.list_frames())
    ('FolderSource', 120)
    """
    from detectime.sources import archive, videos

    path = urls.strip_file_scheme(images)
    if are_videos(images, source_type):
        return videos.VideoSource(path)
    found = archive.find_archives(path) if source_type is None else archive.FoundArchives()
    are_archives = source_type == "archives" or found.are_the_source
    if urls.is_remote(images):
        if are_archives:
            raise SourceError(f"{images}: archives cannot be read in a bucket; mount it, or download them")
        from detectime.sources.bucket import BucketSource

        return BucketSource(images)
    if are_archives:
        return archive.ArchiveSource(path)
    from detectime.sources.folder import FolderSource

    return FolderSource(path, found.notes)


def are_videos(images: str, source_type: str | None = None) -> bool:
    """Whether `open_source` with the same arguments opens videos.

    Examples
    --------
    >>> are_videos("anna.mp4"), are_videos("frames"), are_videos("clips", "videos")
    (True, False, True)
    """
    from detectime.sources import videos

    return source_type == "videos" or (source_type is None and videos.is_video(images))
