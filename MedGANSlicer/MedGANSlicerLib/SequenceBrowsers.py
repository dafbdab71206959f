"""Which browser shows the frames of a sequence."""

from __future__ import annotations


def browsersOf(scene) -> list:
    """The sequence browsers of a scene."""
    return [node for node in scene.GetNodes() if node.IsA("vtkMRMLSequenceBrowserNode")]


def browserOf(volumeNode):
    """The browser whose current frame a volume node shows, or None for a volume of its own."""
    scene = volumeNode.GetScene()
    browsers = browsersOf(scene) if scene is not None else []
    return next((each for each in browsers if each.GetSequenceNode(volumeNode) is not None), None)
