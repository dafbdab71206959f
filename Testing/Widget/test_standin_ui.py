"""The stand-in loads the ``.ui`` files that Slicer loads well, and refuses what Slicer passes over in silence."""

from pathlib import Path

import pytest
import slicer
import slicer.util

GOOD = (Path(__file__).parent / "SampleModule" / "Resources" / "UI" / "SampleModule.ui").read_text()


@pytest.fixture
def load(slicer_standin, tmp_path):
    """Load a ``.ui`` text."""

    def load(text):
        path = tmp_path / "Panel.ui"
        path.write_text(text)
        return slicer.util.loadUI(str(path))

    return load


def with_property(name, tag, value, before='<property name="toolTip">', dynamic=False):
    """The good text with one more property in its first widget with a tool tip, the input selector."""
    stdset = ' stdset="0"' if dynamic else ""
    return GOOD.replace(before, f'<property name="{name}"{stdset}><{tag}>{value}</{tag}></property>{before}', 1)


def test_good_file(load):
    ui = slicer.util.childWidgetVariables(load(GOOD))
    assert type(ui.inputSelector) is slicer.qMRMLNodeComboBox
    assert ui.inputSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.inputSelector.showChildNodeTypes is False
    assert ui.inputSelector.property("SlicerParameterName") == "inputVolume"
    assert ui.advancedButton.collapsed is True
    assert ui.applyButton.enabled is False
    assert ui.factorSlider.singleStep == 0.1
    assert ui.inputSelectorLabel.buddy() is ui.inputSelector
    assert ui.volumesLayout.labelForField(ui.inputSelector) is ui.inputSelectorLabel


def test_scene_reaches_the_connected_widgets(load):
    root = load(GOOD)
    ui = slicer.util.childWidgetVariables(root)
    assert ui.inputSelector.enabled is False
    root.setMRMLScene(slicer.mrmlScene)
    assert ui.inputSelector.mrmlScene() is slicer.mrmlScene
    assert ui.outputSelector.mrmlScene() is slicer.mrmlScene
    assert ui.inputSelector.enabled is True
    with pytest.raises(ValueError, match="setMRMLScene"):
        root.setMRMLScene("scene")
    assert root.volumesButton is ui.volumesButton
    assert not hasattr(root, "inputSelector")  # only direct children are attributes


def test_missing_file(slicer_standin):
    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI("/nowhere/Panel.ui")


BAD = {
    "unknown class ctkRainbow": GOOD.replace('class="ctkSliderWidget"', 'class="ctkRainbow"'),
    "unknown class QNothing": GOOD.replace('class="QCheckBox"', 'class="QNothing"'),
    "no <customwidget> entry for ctkSliderWidget": GOOD.replace("<class>ctkSliderWidget</class>", "<class>x</class>"),
    "extends QLabel": GOOD.replace("<extends>QWidget</extends>", "<extends>QLabel</extends>", 1),
    "needs the header": GOOD.replace("<header>ctkSliderWidget.h</header>", "<header>ctkSlider.h</header>"),
    "needs <container>1</container>": GOOD.replace("   <container>1</container>\n", ""),
    "has no property 'colour'": with_property("colour", "string", "red"),
    'needs stdset="0"': GOOD.replace('name="SlicerParameterName" stdset="0"', 'name="SlicerParameterName"', 1),
    "has the dynamic property SlicerParameter;": GOOD.replace('"SlicerParameterName"', '"SlicerParameter"', 1),
    "empty SlicerParameterName": GOOD.replace("<string>factor</string>", "<string/>"),
    "2 widgets are bound to the parameter 'factor'": GOOD.replace("<string>invert</string>", "<string>factor</string>"),
    "not a <string>": with_property("showHidden", "string", "true"),
    "not a <enum>": with_property("showHidden", "enum", "Qt::Vertical"),
    "scoped enumerator": GOOD.replace("Qt::Vertical", "Qt::Orientation::Vertical"),
    "could not be read": GOOD.replace("Qt::Vertical", "Qt::Sideways"),
    "is read-only": GOOD.replace('<property name="enabled">', '<property name="visibleRegion">').replace(
        '<property name="visibleRegion">\n      <bool>false</bool>',
        '<property name="width">\n      <number>3</number>',
        1,
    ),
    "baseName must stand after nodeTypes": with_property("baseName", "string", "Scaled"),
    "value must stand after maximum": GOOD.replace(
        '<property name="singleStep">',
        '<property name="value"><double>500</double></property><property name="maximum"><double>900</double></property>'
        '<property name="singleStep">',
    ),
    "2 objects are named 'applyButton'": GOOD.replace('name="factorLabel"', 'name="applyButton"'),
    "can not be an attribute": GOOD.replace('name="factorLabel"', 'name="factor-label"'),
    "which does not exist": GOOD.replace("<cstring>inputSelector</cstring>", "<cstring>inputselector</cstring>"),
    "a connection names 'nobody'": GOOD.replace("<receiver>inputSelector</receiver>", "<receiver>nobody</receiver>"),
    "has no signal 'sceneChanged": GOOD.replace("<signal>mrmlSceneChanged(", "<signal>sceneChanged("),
    "has no slot 'setScene": GOOD.replace("<slot>setMRMLScene(", "<slot>setScene("),
    "does not carry": GOOD.replace("<slot>setMRMLScene(vtkMRMLScene*)", "<slot>setCurrentNodeID(QString)"),
    "unknown layout class": GOOD.replace('class="QFormLayout"', 'class="QTableLayout"', 1),
    "resource files": GOOD.replace("<resources/>", '<resources><include location="a.qrc"/></resources>'),
    "is no XML": GOOD.replace("</ui>", ""),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_are_refused(slicer_standin, load, fault):
    assert BAD[fault] != GOOD
    with slicer_standin.problems.expected(fault.replace("(", r"\(")):
        load(BAD[fault])


def test_loader_wants_an_open_file(slicer_standin, tmp_path):
    import qt

    path = tmp_path / "Panel.ui"
    path.write_text(GOOD)
    with slicer_standin.problems.expected("open qt.QFile"):
        qt.QUiLoader().load(qt.QFile(str(path)))


# The node selector


@pytest.fixture
def a_selector(slicer_standin):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    return selector


def add(name, kind="vtkMRMLScalarVolumeNode"):
    return slicer.mrmlScene.AddNewNodeByClass(kind, name)


def names(selector):
    return [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())]


def test_selector_lists_what_passes_its_filters(a_selector):
    add("CT"), add("Labels", "vtkMRMLLabelMapVolumeNode"), add("Surface", "vtkMRMLModelNode")
    hidden = add("Secret")
    hidden.SetHideFromEditors(1)
    a_selector.setMRMLScene(slicer.mrmlScene)
    assert names(a_selector) == ["CT", "Labels"]
    a_selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert names(a_selector) == ["CT"]
    a_selector.hideChildNodeTypes = []
    a_selector.showChildNodeTypes = False
    a_selector.showHidden = True
    assert names(a_selector) == ["CT", "Secret"]
    a_selector.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "CT")
    assert names(a_selector) == []
    hidden.SetAttribute("Kind", "CT")
    a_selector.showHidden = True
    assert names(a_selector) == ["Secret"]


def test_selector_refuses_text_for_types_and_wrong_nodes(a_selector):
    with pytest.raises(AttributeError):
        a_selector.nodeTypes = "vtkMRMLScalarVolumeNode"
    with pytest.raises(ValueError, match="setCurrentNode"):
        a_selector.setCurrentNode(slicer.mrmlScene)
    with pytest.raises(AttributeError):
        a_selector.setNodeTypes(["vtkMRMLScalarVolumeNode"])
    assert not hasattr(a_selector, "currentNodeId_")


def test_selector_announces_changes(a_selector):
    seen = []
    a_selector.noneEnabled = True
    a_selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node and node.GetName()))
    a_selector.connect("currentNodeChanged(bool)", seen.append)
    a_selector.currentNodeIDChanged.connect(seen.append)
    a_selector.setMRMLScene(slicer.mrmlScene)
    volume = add("CT")
    assert (a_selector.currentNode(), seen) == (None, [])
    a_selector.setCurrentNode(volume)
    assert seen == ["CT", True, volume.GetID()]
    assert a_selector.currentNodeID == volume.GetID()
    a_selector.setCurrentNode(volume)
    a_selector.setCurrentNode(None)
    assert seen[3:] == [None, False, ""]
    a_selector.currentNodeID = volume.GetID()
    assert a_selector.currentNode() is volume


def test_selector_without_none_and_actions_takes_the_first_node(a_selector):
    a_selector.addEnabled = a_selector.removeEnabled = False
    a_selector.setMRMLScene(slicer.mrmlScene)
    first, second = add("CT"), add("MR")
    assert a_selector.currentNode() is first
    a_selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert a_selector.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert a_selector.currentNode() is None


def test_selector_takes_the_node_before_a_removed_one(a_selector):
    a_selector.noneEnabled = True
    a_selector.setMRMLScene(slicer.mrmlScene)
    first, second = add("CT"), add("MR")
    a_selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert a_selector.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert a_selector.currentNode() is None


def test_selector_creates_nodes(slicer_standin, a_selector):
    a_selector.setMRMLScene(slicer.mrmlScene)
    a_selector.baseName = "Enhanced"
    added = []
    a_selector.connect("nodeAddedByUser(vtkMRMLNode*)", added.append)
    assert [a_selector.addNode().GetName(), a_selector.addNode().GetName()] == ["Enhanced", "Enhanced_1"]
    assert a_selector.currentNode() is added[1]
    assert a_selector.addNode("vtkMRMLModelNode") is None
    other = slicer.qMRMLNodeComboBox()
    with slicer_standin.problems.expected("set nodeTypes first"):
        other.baseName = "Lost"


def test_selector_follows_names_and_the_scene(a_selector):
    a_selector.setMRMLScene(slicer.mrmlScene)
    volume = add("CT")
    volume.SetName("Head CT")
    assert names(a_selector) == ["Head CT"]
    slicer.mrmlScene.Clear()
    assert names(a_selector) == []
    a_selector.setMRMLScene(None)
    assert a_selector.enabled is False
