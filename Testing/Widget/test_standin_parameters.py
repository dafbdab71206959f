"""The stand-in's ``parameterNodeWrapper`` stores, checks and binds as Slicer's does."""

import dataclasses
import enum
import pathlib
import typing
from typing import Annotated

import pytest
import slicer
import slicer.util
import vtk

from medgan.settings import Bounds, Device, EnhanceSettings


class Mode(enum.Enum):
    FAST = 1
    GOOD = 2


@pytest.fixture
def pnw(slicer_standin):
    import slicer.parameterNodeWrapper

    return slicer.parameterNodeWrapper


@pytest.fixture
def a_node(slicer_standin):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


def enhance_pack(pnw):
    """The engine's settings as a parameter pack: same fields and defaults, bounds as WithinRange."""
    hints = typing.get_type_hints(EnhanceSettings, include_extras=True)
    fields = []
    for field in dataclasses.fields(EnhanceSettings):
        kind, *extras = typing.get_args(hints[field.name]) or (hints[field.name],)
        bounds = [pnw.WithinRange(each.minimum, each.maximum) for each in extras if isinstance(each, Bounds)]
        annotated = Annotated[(kind, *bounds)] if bounds else kind
        fields.append((field.name, annotated, dataclasses.field(default=field.default)))
    return pnw.parameterPack(dataclasses.make_dataclass("EnhancePack", fields, bases=(EnhanceSettings,)))


def wrapper_with(pnw, **annotations):
    return pnw.parameterNodeWrapper(type("Node", (), {"__annotations__": annotations}))


# Storage


def test_union_of_nodes_holds_none_only_where_it_says_so(pnw, a_node):
    volumes, sequences = slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSequenceNode
    with pytest.raises(TypeError):
        wrapper_with(pnw, volume=typing.Union[volumes, sequences])(a_node)  # noqa: UP007
    node = wrapper_with(pnw, volume=typing.Union[volumes, sequences, None])(a_node)  # noqa: UP007
    assert node.volume is None
    node.volume = sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode")
    assert node.volume is sequence
    assert list(a_node.GetParameterNames()) == ["volume.1"]
    node.volume = None
    assert list(a_node.GetParameterNames()) == ["volume.2"]


def test_plain_values_are_stored_as_text(pnw, a_node):
    @pnw.parameterNodeWrapper
    class Node:
        number: int = 3
        factor: float = 0.5
        text: str = "a"
        flag: bool = False
        mode: Mode = Mode.FAST
        path: pathlib.Path = pathlib.Path("/a")
        volume: slicer.vtkMRMLScalarVolumeNode

    node = Node(a_node)
    stored = {name: a_node.GetParameter(name) for name in a_node.GetParameterNames()}
    assert stored == {
        "number": "3",
        "factor": "0.5",
        "text": "a",
        "flag": "False",
        "mode": "FAST",
        "path": "/a",
        "volume": "",
    }
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    node.flag, node.mode, node.volume = True, Mode.GOOD, volume
    assert (a_node.GetParameter("flag"), a_node.GetParameter("mode")) == ("True", "GOOD")
    assert a_node.GetNodeReference("volume") is volume
    assert (node.number, node.factor, node.path, node.volume) == (3, 0.5, pathlib.Path("/a"), volume)
    assert Node(a_node).mode is Mode.GOOD


def test_containers_are_stored_by_index(pnw, a_node):
    wrapper = wrapper_with(pnw, names=list[str], pair=tuple[int, str], table=dict[str, int], maybe=int | None)
    node = wrapper(a_node)
    node.names = ["a", "b", "c"]
    node.names.remove("a")
    node.pair, node.table, node.maybe = (1, "x"), {"k": 4}, 7
    expected = {"names.len": "2", "names.0": "b", "names.1": "c", "pair.0": "1", "pair.1": "x"}
    expected |= {"table.len": "1", "table.0.0": "k", "table.0.1": "4", "maybe.0": "7"}
    stored = {name: a_node.GetParameter(name) for name in a_node.GetParameterNames()}
    assert stored == expected
    node.table["l"] = 5
    assert wrapper(a_node).table == {"k": 4, "l": 5}
    node.maybe = None
    assert (wrapper(a_node).maybe, a_node.HasParameter("maybe.0")) == (None, False)


def test_values_are_checked(pnw, a_node):
    @pnw.parameterNodeWrapper
    class Node:
        number: int
        share: Annotated[float, pnw.WithinRange(0, 1)] = 0.5
        size: Annotated[int, pnw.Minimum(1), pnw.Maximum(9), pnw.Exclude([5])] = 1
        name: Annotated[str, pnw.Choice(["a", "b"])] = "a"
        volume: slicer.vtkMRMLScalarVolumeNode
        wanted: Annotated[slicer.vtkMRMLModelNode, pnw.Default(None)]

    node = Node(a_node)
    for name, value in [("share", 3.0), ("size", 0), ("size", 10), ("size", 5), ("name", "c"), ("number", None)]:
        before = getattr(node, name)
        with pytest.raises(ValueError):  # noqa: PT011
            setattr(node, name, value)
        assert getattr(node, name) == before
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    for name, value in [("number", 2.0), ("number", "2"), ("name", 3), ("volume", model)]:
        with pytest.raises(TypeError):
            setattr(node, name, value)
    node.share = 1  # an int is a float
    assert node.share == 1.0


@pytest.mark.parametrize("kind", [complex, typing.Any, object, "qt.QColor"])
def test_unknown_types_are_refused_at_definition(pnw, kind):
    with pytest.raises((TypeError, NameError)):
        wrapper_with(pnw, value=kind)


@pytest.mark.parametrize("name", ["default", "getValue", "connectGui", "AddObserver", "dataType"])
def test_reserved_names_are_refused(pnw, name):
    with pytest.raises(ValueError, match="reserved"):
        wrapper_with(pnw, **{name: int})


def test_default_of_a_pack_is_checked(pnw):
    with pytest.raises(ValueError, match="fails its checks"):

        @pnw.parameterPack
        class Pack:
            share: Annotated[float, pnw.WithinRange(0, 1)] = 2.0


def test_changes_from_outside_are_noticed(pnw, a_node):
    wrapper = wrapper_with(pnw, number=int)
    first, second = wrapper(a_node), wrapper(a_node)
    a_node.SetParameter("number", "7")
    assert (first.number, second.number) == (7, 7)
    second.number = 8
    assert first.number == 8


def test_many_changes_are_one_event(pnw, a_node):
    node, seen = wrapper_with(pnw, a=int, b=int)(a_node), []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: seen.append(1))
    with slicer.util.NodeModify(node):
        node.a, node.b = 1, 2
    assert seen == [1]


def test_values_return_to_defaults_when_the_scene_closes(pnw, slicer_standin):
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
    node.UnRegister(None)
    node.SetSingletonTag("Here")
    node = slicer.mrmlScene.AddNode(node)

    @pnw.parameterNodeWrapper
    class Node:
        number: int = 3

    wrapped = Node(node)
    wrapped.number = 9
    slicer.mrmlScene.Clear()
    assert wrapped.number == 3


# Packs


def test_pack_stays_an_instance_of_the_engines_settings(pnw, a_node):
    pack_class = enhance_pack(pnw)
    node = wrapper_with(pnw, enhance=pack_class)(a_node)
    assert isinstance(node.enhance, EnhanceSettings)
    assert a_node.GetParameter("enhance.strength") == "1.0"
    assert a_node.GetParameter("enhance.device") == "AUTO"
    node.enhance.strength, node.enhance.device, node.enhance.seed = 0.25, Device.CPU, 11
    assert a_node.GetParameter("enhance.strength") == "0.25"
    assert a_node.GetParameter("enhance.device") == "CPU"
    with pytest.raises(ValueError, match=r"not within \[0\.0, 1\.0\]"):
        node.enhance.strength = 3.0
    with pytest.raises(AttributeError):
        node.enhance.strong = 0.5
    snapshot = EnhanceSettings(**dataclasses.asdict(node.enhance))
    assert type(snapshot) is EnhanceSettings
    assert snapshot == EnhanceSettings(strength=0.25, device=Device.CPU, seed=11)
    node.enhance.seed = 12
    assert snapshot.seed == 11
    assert node.enhance.to_dict() == {**snapshot.to_dict(), "seed": 12}


def test_pack_can_be_made_and_assigned(pnw, a_node):
    pack_class = enhance_pack(pnw)
    node = wrapper_with(pnw, enhance=pack_class)(a_node)
    node.enhance = pack_class(strength=0.5, seed=3)
    assert (a_node.GetParameter("enhance.seed"), node.enhance == pack_class(strength=0.5, seed=3)) == ("3", True)
    with pytest.raises(ValueError, match="is no EnhancePack"):
        node.enhance = EnhanceSettings()
    with pytest.raises(ValueError):  # noqa: PT011
        pack_class(strength=1.5)
    assert node.dataType("enhance.device") is Device
    assert node.getValue("enhance.seed") == 3
    node.setValue("enhance.seed", 4)
    assert a_node.GetParameter("enhance.seed") == "4"
    assert "enhance.model" in [f"enhance.{name}" for name in pnw.nestedParameterNames(pack_class)]


def test_pack_kept_aside_overwrites_what_others_changed(pnw, a_node):
    node = wrapper_with(pnw, enhance=enhance_pack(pnw))(a_node)
    kept = node.enhance
    node.enhance.seed = 5
    a_node.SetParameter("enhance.seed", "6")
    assert (node.enhance.seed, kept.seed) == (6, 5)
    kept.strength = 0.5
    assert node.enhance.seed == 5


# Widgets


@pytest.fixture
def a_form(pnw):
    """Makes the wrapper of annotations and a namespace of widgets bound to it by ``SlicerParameterName``."""

    def make(widgets, **annotations):
        node = wrapper_with(pnw, **annotations)(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
        form = type("", (), {})()
        for name, widget in widgets.items():
            widget.setProperty("SlicerParameterName", name)
            setattr(form, name.replace(".", "_"), widget)
        return node, form

    return make


def test_binding_works_in_both_directions(pnw, a_form):
    import ctk
    import qt

    widgets = {
        "number": qt.QSpinBox(),
        "slid": qt.QSlider(),
        "share": qt.QDoubleSpinBox(),
        "flag": qt.QCheckBox(),
        "pressed": qt.QPushButton(),
        "text": qt.QLineEdit(),
        "notes": qt.QTextEdit(),
        "mode": qt.QComboBox(),
        "choice": qt.QComboBox(),
        "path": ctk.ctkPathLineEdit(),
        "folder": ctk.ctkDirectoryButton(),
    }
    bounded = Annotated[float, pnw.WithinRange(0, 1), pnw.Decimals(3), pnw.SingleStep(0.05)]
    node, form = a_form(
        widgets,
        number=int,
        slid=Annotated[int, pnw.WithinRange(0, 9)],
        share=bounded,
        flag=bool,
        pressed=bool,
        text=str,
        notes=str,
        mode=Mode,
        choice=Annotated[str, pnw.Choice(["a", "b"]), pnw.Default("a")],
        path=pathlib.Path,
        folder=pathlib.Path,
    )
    tag = node.connectGui(form)
    assert [form.mode.itemText(index) for index in range(form.mode.count)] == ["FAST", "GOOD"]
    assert (form.share.maximum, form.share.decimals, form.share.singleStep) == (1.0, 3, 0.05)
    assert (form.pressed.checkable, form.slid.maximum) == (True, 9)
    node.number, node.share, node.flag, node.text, node.mode, node.choice = 4, 0.125, True, "x", Mode.GOOD, "b"
    shown = (form.number.value, form.share.value, form.flag.checked, form.text.text)
    assert shown == (4, 0.125, True, "x")
    assert (form.mode.currentText, form.choice.currentText) == ("GOOD", "b")
    form.number.setValue(6)
    form.slid.value = 7
    form.notes.setPlainText("line\nline")
    form.mode.setCurrentIndex(0)
    form.pressed.click()
    form.path.currentPath = "/a/b"
    assert (node.number, node.slid, node.notes, node.mode, node.pressed) == (6, 7, "line\nline", Mode.FAST, True)
    assert node.path == pathlib.Path("/a/b")
    node.disconnectGui(tag)
    form.number.setValue(1)
    node.share = 0.5
    assert (node.number, form.share.value) == (6, 0.125)


def test_dotted_names_bind_members_of_packs(pnw, a_form):
    import ctk
    import qt

    widgets = {
        "enhance.strength": ctk.ctkSliderWidget(),
        "enhance.device": qt.QComboBox(),
        "enhance.seed": qt.QSpinBox(),
        "enhance.noise_sigma": qt.QDoubleSpinBox(),
    }
    node, form = a_form(widgets, enhance=enhance_pack(pnw))
    node.connectGui(form)
    slider, device = form.enhance_strength, form.enhance_device
    assert (slider.minimum, slider.maximum, slider.value, slider.singleStep) == (0.0, 1.0, 1.0, 1.0)
    labels = [device.itemText(index) for index in range(device.count)]
    assert labels == ["Automatic", "NVIDIA GPU", "Apple GPU", "CPU"]
    slider.value = 0.5
    device.setCurrentText("CPU")
    form.enhance_seed.setValue(8)
    snapshot = EnhanceSettings(**dataclasses.asdict(node.enhance))
    assert snapshot == EnhanceSettings(strength=0.5, device=Device.CPU, seed=8)
    node.enhance.strength = 0.75
    assert slider.value == 0.75


def test_node_selector_is_bound_and_gets_its_types(pnw, a_form):
    selector = slicer.qMRMLNodeComboBox()
    selector.setMRMLScene(slicer.mrmlScene)
    node, form = a_form({"volume": selector}, volume=slicer.vtkMRMLLabelMapVolumeNode | None)
    node.connectGui(form)
    assert selector.nodeTypes == ("vtkMRMLLabelMapVolumeNode",)
    labels = selector.addNode()
    assert node.volume is labels
    node.volume = None
    assert selector.currentNode() is None


@pytest.mark.parametrize("name", ["numbers", "number.part", "enhance.strong", "enhance.check", "enhance.seed.part"])
def test_misspelt_names_are_refused(pnw, a_form, name):
    import qt

    node, form = a_form({name: qt.QSpinBox()}, number=int, enhance=enhance_pack(pnw))
    with pytest.raises(ValueError):  # noqa: PT011
        node.connectGui(form)


def test_one_parameter_for_two_widgets_is_refused(slicer_standin, a_form):
    import qt

    node, form = a_form({"number": qt.QSpinBox()}, number=int)
    form.second = qt.QSpinBox()
    form.second.setProperty("SlicerParameterName", "number")
    with slicer_standin.problems.expected("Two widgets"):
        node.connectGui(form)


def test_widgets_without_connector_are_refused(pnw, a_form):
    import ctk
    import qt

    class MySpinBox(qt.QSpinBox):
        pass

    unbounded, bounded = float, Annotated[float, pnw.Minimum(0)]
    cases = [
        (qt.QPlainTextEdit(), str),
        (qt.QListWidget(), list[str]),
        (qt.QSpinBox(), float),
        (qt.QComboBox(), str),
        (qt.QLineEdit(), pathlib.Path),
        (MySpinBox(), int),
        (qt.QSlider(), int),
        (qt.QRadioButton(), bool),
        (ctk.ctkSliderWidget(), unbounded),
        (ctk.ctkSliderWidget(), bounded),
        (qt.QDoubleSpinBox(), unbounded),
        (qt.QLineEdit(), slicer.vtkMRMLScalarVolumeNode),
    ]
    for widget, kind in cases:
        node, form = a_form({"value": widget}, value=kind)
        with pytest.raises(RuntimeError):
            node.connectGui(form)


def test_value_a_widget_can_not_give_is_kept_as_a_problem(pnw, slicer_standin, a_form):
    import qt

    node, form = a_form({"size": qt.QSpinBox()}, size=Annotated[int, pnw.Exclude([3])])
    node.connectGui(form)
    with slicer_standin.problems.expected("3 is excluded"):
        form.size.setValue(3)
    assert node.size == 0
