"""Sources of frames: see `contract` for what a source is."""

from __future__ import annotations

import os

from detectime.sources.contract import Source, SourceError
from detectime.storage import urls

__all__ = ["SourceError", "are_videos", "open_source"]


def open_source(images: str, source_type: str | None = None) -> Source:
    """Open the source that frames are read from. Nothing is listed; a place that cannot be used says so when it is.

    Parameters
    ----------
    images
        A folder, an archive or a folder of archives, a video or a folder of videos, or a URL such as
        ``s3://bucket/folder``.
    source_type
        ``folder``, ``archives`` or ``videos``; None: a file is recognised by its content, and one that does not exist,
        or has a URL, by its name. A folder is one of archives if it holds some and no folders, see
        `archive.find_archives`; whatever it is called, it is no archive or video itself.

    Raises
    ------
    SourceError
        If a package that it needs is not installed, or if videos lie in a bucket.

    Examples
    --------
    >>> from detectime import paths
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> type(source).__name__, sum(1 for _ in source.list_frames())
    ('FolderSource', 120)
    """
    from detectime.sources import archive, videos
    from detectime.sources.folder import FolderSource

    path = urls.strip_file_scheme(images)
    if are_videos(images, source_type):
        return videos.VideoSource(path)
    if urls.is_remote(images):
        return _open_remote(images, source_type)
    if source_type == "archives":
        return archive.ArchiveSource(path)
    if source_type == "folder":
        return archive.FileAsFolder(path) if os.path.isfile(path) else FolderSource(path)
    found = archive.find_archives(path)
    if found.are_the_source:
        return archive.ArchiveSource(path, found.is_compared)
    if found.archives:
        return archive.FolderBesideArchives(path, archives=found.archives, folder=found.folder)
    return FolderSource(path)


def _open_remote(images: str, source_type: str | None) -> Source:
    from detectime.sources.bucket import BucketSource
    from detectime.sources.file_kinds import is_archive_name
    from detectime.sources.remote_archive import RemoteArchiveSource

    is_archive = source_type is None and is_archive_name(images) and not _is_remote_folder(images)
    return RemoteArchiveSource(images) if is_archive or source_type == "archives" else BucketSource(images)


def _is_remote_folder(images: str) -> bool:
    """Whether a URL is a folder; over HTTP it is a file, which would be fetched whole to find out."""
    return not images.startswith(("http://", "https://")) and urls.is_remote_folder(images)


def are_videos(images: str, source_type: str | None = None) -> bool:
    """Whether `open_source` with the same arguments opens videos.

    Examples
    --------
    >>> are_videos("anna.mp4"), are_videos("frames"), are_videos("clips", "videos")
    (True, False, True)
    """
    from detectime.sources import file_kinds, videos

    if source_type is not None:
        return source_type == "videos"
    if urls.is_remote(images):
        return videos.is_video(images) and not _is_remote_folder(images)
    path = urls.strip_file_scheme(images)
    if os.path.isdir(path):
        return False
    kind = file_kinds.recognise_path(path)
    return kind.name == "video" or (kind.name not in ("zip", "tar", "image") and videos.is_video(path))
