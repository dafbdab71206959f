"""The stand-in's ``slicer.app``, ``slicer.util``, dialogs, sample data and packages behave as Slicer's."""

import importlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import slicer
import slicer.util


def test_application_signals_are_checked(slicer_standin):
    seen = []
    slicer.app.connect("startupCompleted()", lambda: seen.append("started"))
    slicer.app.connect("aboutToQuit()", lambda: seen.append("quit"))
    slicer_standin.start_up()
    assert slicer.app.disconnect("startupCompleted()", print) is False
    slicer_standin.quit()
    assert seen == ["started", "quit"]
    with slicer_standin.problems.expected("no signal 'startUpCompleted"):
        slicer.app.connect("startUpCompleted()", print)


def test_application_has_what_slicer_has_and_nothing_else(slicer_standin):
    assert slicer.app.mrmlScene() is slicer.mrmlScene
    assert slicer.app.majorVersion == 5
    assert slicer.app.applicationLogic().GetMRMLScene() is slicer.mrmlScene
    assert slicer.modules.volumes.logic().GetClassName() == "vtkSlicerVolumesLogic"
    assert pathlib.Path(slicer.app.temporaryPath).is_dir()
    for name in ("runInThread", "testing", "main_window", "modules"):
        assert not hasattr(slicer.app, name)
    with pytest.raises(AttributeError):
        slicer.app.myState = 1


def test_layouts_are_real(slicer_standin):
    manager, seen = slicer.app.layoutManager(), []
    manager.connect("layoutChanged(int)", seen.append)
    red = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    before = manager.layout
    manager.setLayout(red)
    assert (manager.layout, seen) == (red, [red])
    node = manager.layoutLogic().GetLayoutNode()
    with slicer_standin.problems.expected("no layout 501"):
        manager.setLayout(501)
    node.AddLayoutDescription(501, '<layout type="horizontal"><item/></layout>')
    manager.layout = 501
    assert node.GetViewArrangement() == 501
    view = '<view class="vtkMRMLSliceNode" singletontag="Before"><property name="orientation">Axial</property></view>'
    node.AddLayoutDescription(502, f'<layout type="horizontal"><item>{view}</item></layout>')
    manager.setLayout(502)
    slicer.util.setSliceViewerLayers(background=None)
    assert manager.sliceWidget("Before").mrmlSliceNode().GetOrientation() == "Axial"
    assert manager.sliceWidget("Before").mrmlSliceCompositeNode() is not None
    manager.setLayout(before)
    assert manager.sliceViewNames() == ("Red", "Yellow", "Green", "Before")
    assert manager.sliceWidget("Purple") is None


def test_errors_that_are_only_printed_fail_the_test(slicer_standin):
    with slicer_standin.problems.expected("failed to create node by class vtkMRMLNothingNode"):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLNothingNode")


def test_slice_views_show_volumes(slicer_standin):
    volume = slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.float32), name="CT")
    slicer.util.setSliceViewerLayers(background=volume, foreground=volume, foregroundOpacity=0.25, fit=True)
    slicer.util.resetSliceViews()
    composite = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceCompositeNode()
    assert (composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()) == (volume.GetID(), 0.25)


def test_without_main_window(slicer_standin):
    slicer_standin.use_main_window(False)
    assert slicer.app.layoutManager() is None
    assert slicer.util.mainWindow() is None
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("Data")
    slicer.util.errorDisplay("nobody sees this")
    assert slicer_standin.messages == []


def test_settings_and_folders(slicer_standin):
    import qt

    settings = slicer.app.settings()
    settings.setValue("MedGAN/Folder", "/a")
    assert slicer.util.settingsValue("MedGAN/Folder", "", settings=settings) == "/a"
    assert slicer.util.settingsValue("MedGAN/Nothing", 7) == 7
    folder = pathlib.Path(slicer.util.tempDirectory(key="__medgan__"))
    assert folder.is_dir()
    assert slicer_standin.folder in folder.parents
    assert isinstance(settings, qt.QSettings)


# The person at the desk


def test_messages_are_recorded(slicer_standin):
    slicer.util.errorDisplay("It failed.", windowTitle="MedGAN", detailedText="Traceback")
    slicer.util.infoDisplay("Note.")
    slicer.util.warningDisplay("Careful.")
    slicer.util.showStatusMessage("Working", 1000)
    kinds = [(message.kind, message.text) for message in slicer_standin.messages]
    assert kinds == [
        ("critical", "It failed."),
        ("information", "Note."),
        ("warning", "Careful."),
        ("status", "Working"),
    ]
    assert slicer_standin.messages[0].details == "Traceback"
    with slicer_standin.problems.expected("no property colour"):
        slicer.util.errorDisplay("It failed.", colour="red")


def test_questions_need_an_answer(slicer_standin):
    slicer_standin.answer(True, False, True, False)
    assert slicer.util.confirmOkCancelDisplay("Install?") is True
    assert slicer.util.confirmOkCancelDisplay("Install?") is False
    assert slicer.util.confirmYesNoDisplay("Restart?") is True
    assert slicer.util.confirmRetryCloseDisplay("Again?") is False
    with slicer_standin.problems.expected("no answer"):
        slicer.util.confirmYesNoDisplay("Restart?")


def test_testing_mode_answers_itself(slicer_standin):
    slicer_standin.use_testing_mode()
    assert slicer.app.testingEnabled() is True
    slicer.util.confirmOkCancelDisplay("Install?")
    with pytest.raises(KeyError), slicer.util.tryWithErrorDisplay("It failed."):
        {}["gone"]
    assert slicer_standin.messages == []


def test_text_goes_through_the_translation(slicer_standin):
    from slicer.i18n import tr as _
    from slicer.i18n import translate

    assert (_("Apply"), translate("qSlicerAbstractCoreModule", "Segmentation")) == ("Apply", "Segmentation")
    slicer_standin.language(lambda context, text: f"«{text}»")
    assert _("{n} volumes").format(n=3) == "«3 volumes»"
    with slicer_standin.problems.expected("takes two strings"):
        _(None)


@pytest.mark.parametrize("undone", ["answer", "cursor"])
def test_things_left_undone_fail_the_test(make_standin, tmp_path, undone):
    running = make_standin(tmp_path)
    if undone == "answer":
        running.answer(True)
    else:
        slicer.app.setOverrideCursor(3)
    with pytest.raises(AssertionError, match=r"answers|cursor"):
        running.close()


def test_one_test_leaves_nothing_to_the_next(make_standin, tmp_path):
    first = make_standin(tmp_path)
    scene, widget = slicer.mrmlScene, slicer.qMRMLNodeComboBox()
    widget.setMRMLScene(scene)
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.util.errorDisplay("x")
    first.close()
    assert not widget
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    second = make_standin(tmp_path)
    assert slicer.mrmlScene is not scene
    assert second.messages == []
    second.close()


def test_nothing_is_left_behind_outside_the_tests():
    """Another process, because this one is inside the installation."""
    code = (
        "import sys, slicer, slicer.util\n"
        f"sys.path[:0] = {[str(pathlib.Path(__file__).parent), *sys.path]!r}\n"
        "import standin\n"
        "before, box = set(vars(slicer)), slicer.util.messageBox\n"
        "with standin.install() as make:\n"
        "    import qt, slicer.i18n\n"
        "    assert make is not None\n"
        "    with standin.install() as again:\n"
        "        pass\n"
        "    slicer.app = object()\n"
        "    with standin.install() as inside:\n"
        "        assert inside is None\n"
        "assert set(vars(slicer)) == before, set(vars(slicer)) ^ before\n"
        "assert slicer.util.messageBox is box\n"
        "assert not {'qt', 'ctk', 'slicer.i18n', 'SampleData'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# Sample data and packages


def register(**fields):
    import SampleData

    given = {"category": "MedGAN", "sampleName": "CT", "uris": "file:///a.nrrd", "fileNames": "a.nrrd"}
    SampleData.SampleDataLogic.registerCustomSampleDataSource(**{**given, **fields})
    return slicer.modules.sampleDataSources["MedGAN"][-1]


def test_sample_data_is_checked(slicer_standin, tmp_path):
    source = register(nodeNames="CT", checksums="SHA256:" + "0" * 64)
    assert (source.uris, source.nodeNames, source.loadFileTypes) == (["file:///a.nrrd"], ["CT"], [None])
    register(nodeNames="CT", checksums="SHA256:" + "0" * 64)
    assert len(slicer.modules.sampleDataSources["MedGAN"]) == 1
    with pytest.raises(TypeError):
        register(uris=None)
    with pytest.raises(TypeError):
        register(description="x")
    with pytest.raises(ValueError, match="same length"):
        register(uris=["file:///a", "file:///b"], fileNames=["a"])
    with slicer_standin.problems.expected("no checksum"):
        register(checksums="0" * 64)
    with slicer_standin.problems.expected("does not exist"):
        register(thumbnailFileName=str(tmp_path / "none.png"))
    with slicer_standin.problems.expected("no network"):
        import SampleData

        SampleData.SampleDataLogic().downloadFromSource(register(uris="https://example.org/a.nrrd"))


def test_sample_data_is_loaded(slicer_standin):
    import SampleData

    def made(source):
        return slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), np.float32), name=source.nodeNames[0])

    source = register(nodeNames="Phantom", customDownloader=made)
    (node,) = SampleData.SampleDataLogic().downloadFromSource(source)
    assert node.GetName() == "Phantom"
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume("/nowhere/a.nrrd")


def test_packages_are_asked_for_and_recorded(slicer_standin, tmp_path):
    slicer_standin.use_packaging(True, missing=("monai",))
    import slicer.packaging

    listed = tmp_path / "requirements.txt"
    listed.write_text("# comment\n--no-cache\nmonai>=1.5\nnumpy\n")
    requirements = slicer.packaging.load_requirements(listed)
    assert [str(each) for each in requirements] == ["monai>=1.5", "numpy"]
    slicer_standin.answer(False, True)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(requirements, requester="MedGAN")
    assert slicer_standin.messages[0].details == "monai>=1.5"
    slicer.packaging.pip_ensure(requirements, requester="MedGAN")
    assert slicer_standin.installer.calls == [["monai>=1.5"]]
    slicer_standin.use_testing_mode()
    slicer.packaging.pip_ensure(requirements)
    assert len(slicer_standin.installer.calls) == 1
    listed.write_text("monai>=1.5  # why\n")
    with pytest.raises(Exception, match="monai"):
        slicer.packaging.load_requirements(listed)


def test_extensions_and_restart_are_recorded(slicer_standin):
    manager = slicer.app.extensionsManagerModel()
    assert manager.isExtensionInstalled("PyTorch") is False
    assert manager.installExtensionFromServer("PyTorch", False) is True
    slicer.util.restart()
    shown = [(message.kind, message.text) for message in slicer_standin.messages]
    assert shown == [("extension", "PyTorch"), ("restart", "Slicer restarts")]


def test_failing_installation(slicer_standin):
    def fail(requirements):
        raise subprocess.CalledProcessError(1, ["pip", "install", requirements])

    slicer_standin.installer.outcome = fail
    codes = []
    slicer.packaging.pip_install("monai", blocking=False, completedCallback=codes.append)
    with pytest.raises(subprocess.CalledProcessError):
        slicer.util.pip_install(["monai"])
    assert codes == [1]


def test_older_slicer_and_missing_extension(slicer_standin):
    slicer_standin.use_packaging(False)
    with pytest.raises(ImportError):
        importlib.import_module("slicer.packaging")
    with pytest.raises(ImportError):
        importlib.import_module("PyTorchUtils")
    from standin.packagingdouble import pytorch_module

    slicer_standin.use_pytorch(pytorch_module(installs=sys))
    utils = importlib.import_module("PyTorchUtils")
    assert utils.PyTorchUtilsLogic.torchInstalled() is False
    assert utils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=">=2.8") is sys
    assert utils.PyTorchUtilsLogic.torchInstalled() is True
    assert utils.PyTorchUtilsLogic.installed[0]["torch"] == ">=2.8"
