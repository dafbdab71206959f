"""A strict stand-in for 3D Slicer's desktop layer, for tests outside Slicer.

``install()`` gives ``qt``, ``ctk``, ``slicer.app`` and the pure-Python layer that the slicer-core wheel lacks. It
refuses what Slicer refuses, and what Slicer swallows in silence: wrong signals, faults in ``.ui`` files, exceptions
in slots and observers, errors that VTK only prints. Scene, logics, slice and layout nodes and ``slicer.util`` are
Slicer's own. It does nothing inside Slicer.

Where to look: ``members`` for what an attribute is, ``calls`` for arguments, ``signals`` for connections, ``uicheck``
for ``.ui`` files, ``parameters`` for the parameter node, ``host`` for what a test can do.

What it can not show: drawing of slices, 3-D views and charts, Slicer's style sheet, keyboard focus, how long C++
objects live, implicit conversions of arguments (text for a ``QIcon``), which public C++ functions of Qt's classes
PythonQt leaves out, the tree view and the exact order of signals of the node selector, translations, and Qt 5.15
itself: it runs on Qt 6 and hides the few newer names that are listed.
"""

from .host import Standin, install

__all__ = ["Standin", "install"]
