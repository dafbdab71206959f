"""Plays the ``SampleData`` module: checks and keeps what is registered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from .problems import refuse

_CHECKSUM_LENGTHS = {"SHA256": 64, "SHA512": 128, "SHA1": 40, "MD5": 32}


class SampleDataSource:
    """One entry. All fields that are lists have the same length, as ``uris`` decides."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Callable[..., Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: Any = None,
        loadFileType: Any = None,
    ) -> None:
        if uris is None:
            raise TypeError("object of type 'NoneType' has no len(): Slicer needs uris even with a customDownloader")
        single = isinstance(uris, str)
        count = 1 if single else len(uris)
        listed: dict[str, list[Any]] = {}
        given = {
            "uris": uris,
            "fileNames": fileNames,
            "nodeNames": nodeNames,
            "checksums": checksums,
            "loadFiles": loadFiles,
            "loadFileTypes": loadFileTypes or loadFileType,
        }
        for name, value in given.items():
            repeats = value is None or (name == "loadFileTypes" and isinstance(value, str))
            listed[name] = [value] * count if single or repeats else list(value)
            if len(listed[name]) != count:
                raise ValueError(f"All fields of sample data source must have the same length: {name}={value!r}")
        if not single and fileNames is None:
            raise TypeError("object of type 'NoneType' has no len(): fileNames")
        self.uris, self.fileNames, self.nodeNames = listed["uris"], listed["fileNames"], listed["nodeNames"]
        self.checksums, self.loadFiles = listed["checksums"], listed["loadFiles"]
        self.loadFileTypes = listed["loadFileTypes"]
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        self._check()

    def _check(self) -> None:
        if not self.sampleName:
            refuse("A sample needs a name")
        if self.thumbnailFileName is not None and not Path(self.thumbnailFileName).is_file():
            refuse(f"The thumbnail {self.thumbnailFileName} does not exist")
        if self.customDownloader is not None and not callable(self.customDownloader):
            refuse("customDownloader can not be called")
        for checksum in filter(None, self.checksums):
            algorithm, _, digest = checksum.partition(":")
            if _CHECKSUM_LENGTHS.get(algorithm) != len(digest):
                refuse(f"'{checksum}' is no checksum of the form SHA256:<digest>")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleDataSource) and vars(self) == vars(other)

    __hash__ = object.__hash__


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        slicer.modules.sampleDataSourceCategories = getattr(slicer.modules, "sampleDataSourceCategories", {})
        slicer.modules.sampleDataSourceCategories.setdefault(category, {})["title"] = title

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **fields: Any) -> None:
        sources = slicer.modules.sampleDataSources = getattr(slicer.modules, "sampleDataSources", {})
        if "sampleDescription" in fields:
            raise TypeError("registerCustomSampleDataSource() got an unexpected keyword argument 'sampleDescription'")
        source = SampleDataSource(**fields)
        if source not in sources.setdefault(category, []):
            sources[category].append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        sources = getattr(slicer.modules, "sampleDataSources", {})
        return sources if category is None else sources.get(category, [])

    def downloadFromSource(self, source: SampleDataSource) -> list[Any]:
        """What pressing the sample's button does: the nodes. Only custom downloaders and local files work here."""
        if source.customDownloader is not None:
            made = source.customDownloader(source)
            return list(made) if isinstance(made, list | tuple) else [made]
        if any(not uri.startswith("file:") for uri in source.uris):
            refuse(f"The tests have no network: {source.uris}")
        paths = [Path(uri.removeprefix("file://")) for uri in source.uris]
        names = source.nodeNames
        return [slicer.util.loadVolume(str(path), {"name": name}) for path, name in zip(paths, names, strict=True)]
