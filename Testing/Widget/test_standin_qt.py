"""The stand-in's ``qt`` and ``ctk`` take and refuse what PythonQt takes and refuses."""

import threading

import numpy as np
import pytest


@pytest.fixture
def qt(slicer_standin):
    import qt

    return qt


@pytest.fixture
def ctk(slicer_standin):
    import ctk

    return ctk


# Attributes


def test_properties_are_attributes_and_never_called(qt):
    button = qt.QPushButton("Apply")
    assert (button.text, button.enabled, button.checkable, button.name) == ("Apply", True, False, "")
    assert button.isChecked() is False
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()
    button.name = "applyButton"
    assert button.objectName == "applyButton"


def test_setters_and_functions_are_called(qt):
    edit = qt.QTextEdit()
    edit.setPlainText("a\nb")
    assert edit.toPlainText() == "a\nb"
    combo = qt.QComboBox()
    combo.addItem("one", 1)
    combo.addItems(["two", "three"])
    assert (combo.count, combo.currentText, combo.currentData) == (3, "one", 1)
    assert (combo.itemText(1), combo.findText("three")) == ("two", 2)


@pytest.mark.parametrize("name", ["texts", "setTexts", "staticMetaObject", "emit", "checked_"])
def test_unknown_attributes_raise_on_reading(qt, name):
    button = qt.QPushButton()
    assert not hasattr(button, name)
    with pytest.raises(AttributeError):
        getattr(button, name)


def test_unknown_attributes_raise_on_writing(qt):
    button = qt.QPushButton()
    with pytest.raises(AttributeError):
        button.enabledd = True
    with pytest.raises(AttributeError):
        button.setText = "x"
    with pytest.raises(AttributeError):
        button.clicked = lambda: None
    with pytest.raises(AttributeError):
        qt.QSize(1, 2).depth = 3


def test_read_only_properties_raise_on_writing(qt):
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


@pytest.mark.parametrize("value", ["3", None, [3]])
def test_values_of_a_wrong_type_are_refused(qt, value):
    spin = qt.QSpinBox()
    with pytest.raises(ValueError, match="wrong arguments"):
        spin.setValue(value)
    with pytest.raises(AttributeError):
        spin.value = value


def test_numbers_are_truncated_and_made_text(qt):
    spin, label = qt.QSpinBox(), qt.QLabel()
    spin.value = 2.7
    assert spin.value == 2
    label.setText(5)
    assert label.text == "5"


@pytest.mark.parametrize("value", [np.int64(3), np.float32(3.0), np.float64(3.0)])
def test_numpy_scalars_are_refused(qt, value):
    spin = qt.QDoubleSpinBox()
    with pytest.raises(ValueError, match="numpy"):
        spin.setValue(value)
    with pytest.raises(AttributeError):
        spin.value = value


def test_keyword_arguments_are_refused(qt):
    with pytest.raises(ValueError, match="keyword"):
        qt.QPushButton("x", checkable=True)
    with pytest.raises(ValueError, match="keyword"):
        qt.QVBoxLayout().addWidget(qt.QLabel(), stretch=1)


def test_dynamic_properties(qt):
    button = qt.QPushButton()
    assert button.setProperty("SlicerParameterName", "factor") is False
    assert button.property("SlicerParameterName") == button.SlicerParameterName == "factor"
    assert button.property("nothing") is None
    button.SlicerParameterName = "other"
    assert button.property("SlicerParameterName") == "other"
    assert button.setProperty("text", "x") is True


def test_lists_come_back_as_tuples(qt):
    widget = qt.QWidget()
    layout = qt.QVBoxLayout(widget)
    layout.addWidget(qt.QLabel("a"))
    assert isinstance(widget.children(), tuple)
    assert isinstance(widget.findChildren(qt.QLabel), tuple)
    model = qt.QStringListModel(["x", "y"])
    assert model.stringList() == ("x", "y")


def test_settings_give_tuples(qt, tmp_path):
    settings = qt.QSettings(str(tmp_path / "a.ini"), qt.QSettings.IniFormat)
    settings.setValue("names", ["x", "y"])
    assert settings.value("names") == ("x", "y")
    assert settings.contains("none") is False


def test_enumerators_are_unscoped_integers(qt):
    label = qt.QLabel()
    assert label.alignment == int(qt.Qt.AlignLeft | qt.Qt.AlignVCenter) == 129
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignTop)
    assert label.alignment == 34
    label.alignment = 4
    assert label.alignment == qt.Qt.AlignHCenter
    label.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    assert label.sizePolicy.horizontalPolicy() == 7
    assert isinstance(qt.QMessageBox.Ok, int)
    with pytest.raises(AttributeError, match="scoped"):
        _ = qt.QSizePolicy.Policy.Expanding


def test_byte_arrays(qt):
    array = qt.QByteArray(b"abc")
    assert array.data() == b"abc"
    with pytest.raises(TypeError):
        bytes(array)


def test_classes_are_flat(qt, ctk):
    button = qt.QPushButton()
    assert type(button) is qt.QPushButton
    assert isinstance(button, qt.QPushButton)
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget")
    assert button.className() == "QPushButton"
    assert not isinstance(ctk.ctkMessageBox(), qt.QMessageBox)


def test_one_object_has_one_proxy(qt):
    widget, layout, label = qt.QWidget(), qt.QVBoxLayout(), qt.QLabel("a")
    widget.setLayout(layout)
    layout.addWidget(label)
    assert widget.layout() is layout
    assert layout.itemAt(0).widget() is label
    assert label.parent() is widget
    label.setObjectName("title")
    assert widget.title is label
    assert widget.findChild("QLabel", "title") is label


def test_destroyed_objects(qt):
    label = qt.QLabel("a")
    label.delete()
    assert not label
    assert label == None  # noqa: E711
    assert label is not None
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text
    with pytest.raises(ValueError, match="destroyed"):
        label.show()


@pytest.mark.parametrize("name", ["QThread", "QThreadPool", "Signal", "QRegExp", "QTextCodec", "QNothing", "qVersion"])
def test_names_that_slicer_lacks_or_this_project_avoids(qt, name):
    assert not hasattr(qt, name)
    with pytest.raises(AttributeError):
        getattr(qt, name)


def test_names_that_only_qt_6_has(slicer_standin, qt):
    box = qt.QCheckBox()
    with slicer_standin.problems.expected("missing in Qt 5.15"):
        box.connect("checkStateChanged(Qt::CheckState)", print)
    assert not hasattr(box, "checkStateChanged")
    with slicer_standin.problems.expected("no signal"):
        qt.QComboBox().connect("currentIndexChanged(QString)", print)


def test_only_the_main_thread_touches_qt(slicer_standin, qt):
    label, errors = qt.QLabel("a"), []

    def work():
        try:
            label.setText("b")
        except AssertionError as error:
            errors.append(error)

    with slicer_standin.problems.expected("only the main thread"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert (label.text, len(errors)) == ("a", 1)


# Signals


def test_signals_by_signature(qt):
    button, seen = qt.QPushButton(), []
    button.checkable = True
    assert button.connect("clicked(bool)", seen.append) is True
    button.toggled.connect(lambda on: seen.append(("toggled", on)))
    button.click()
    assert seen == [("toggled", True), True]
    assert button.disconnect("clicked(bool)", seen.append) is True
    assert button.disconnect("clicked(bool)", seen.append) is False
    button.click()
    assert seen[-1] == ("toggled", False)


@pytest.mark.parametrize("signature", ["clicked", "clicked(int)", "click(bool)", "clicked(bool", "valueChanged(int)"])
def test_wrong_signatures_fail_the_test(slicer_standin, qt, signature):
    with slicer_standin.problems.expected("has no signal"):
        qt.QPushButton().connect(signature, print)


def test_signatures_are_normalised(qt):
    seen = []
    edit = qt.QLineEdit()
    edit.connect("textChanged( const QString & )", seen.append)
    edit.text = "a"
    assert seen == ["a"]


def test_slots_get_as_many_values_as_they_name(qt):
    button, seen = qt.QPushButton(), []

    class Panel:
        def without(self):
            seen.append("without")

        def withOne(self, checked):
            seen.append(checked)

        def withRest(self, *values):
            seen.append(values)

    panel = Panel()
    for slot in (panel.without, panel.withOne, panel.withRest):
        button.connect("clicked(bool)", slot)
    button.connect("clicked(bool)", lambda name="mine": seen.append(name))
    button.click()
    assert seen == ["without", False, (False,), False]


def test_errors_in_slots_do_not_propagate_but_are_kept(slicer_standin, qt, capsys):
    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    with slicer_standin.problems.expected("ZeroDivisionError"):
        button.click()
    assert "ZeroDivisionError" in capsys.readouterr().err
    timer = qt.QTimer()
    timer.connect("timeout()", lambda needed, missing: None)
    with slicer_standin.problems.expected("missing 2 required positional arguments"):
        timer.timeout()


def test_forgotten_problems_fail_the_test(slicer_standin, qt):
    button = qt.QPushButton()
    button.clicked.connect(lambda: [][1])
    button.click()
    with pytest.raises(AssertionError, match="IndexError"):
        slicer_standin.problems.check()
    with pytest.raises(AssertionError, match="expected a problem"), slicer_standin.problems.expected("IndexError"):
        pass


def test_slots_of_objects(slicer_standin, qt):
    box, label = qt.QCheckBox(), qt.QLabel()
    box.connect("toggled(bool)", label, "setDisabled(bool)")
    box.checked = True
    assert label.enabled is False
    with slicer_standin.problems.expected("has no slot"):
        box.connect("toggled(bool)", label, "setDisabledd(bool)")
    with slicer_standin.problems.expected("does not carry"):
        box.connect("toggled(bool)", label, "setText(QString)")


def test_timers(qt, wait_until):
    timer, seen = qt.QTimer(), []
    with pytest.raises(AttributeError):
        timer.singleShot = True
    timer.setSingleShot(True)
    timer.setInterval(5)
    timer.connect("timeout()", lambda: seen.append("timer"))
    timer.start()
    assert timer.active is True
    qt.QTimer.singleShot(1, lambda: seen.append("shot"))
    wait_until(lambda: len(seen) == 2)
    assert timer.active is False


def test_derived_classes_override_events_and_have_attributes(slicer_standin, qt, wait_until):
    class Bar(qt.QLabel):
        def __init__(self, parent=None):
            qt.QLabel.__init__(self, parent)
            self.widths = []

        def resizeEvent(self, event):
            self.widths.append(event.size().width())
            qt.QLabel.resizeEvent(self, event)

    bar = Bar()
    bar.resize(70, 20)
    bar.show()
    wait_until(lambda: bar.widths)
    assert bar.widths == [70]
    with pytest.raises(AttributeError):
        bar.resizeEvent = None

    class Filter(qt.QObject):
        def eventFilter(self, watched, event):
            if event.type() == qt.QEvent.Enter:
                raise KeyError("filter")
            return False

    watcher, button = Filter(), qt.QPushButton()
    button.installEventFilter(watcher)
    with slicer_standin.problems.expected("KeyError"):
        qt.QCoreApplication.sendEvent(button, qt.QEvent(qt.QEvent.Enter))


# What would stop and wait


def test_event_loop_is_never_turned_by_hand(slicer_standin, qt):
    import slicer
    import slicer.util

    def cursor():
        with slicer.util.WaitCursor():
            pass

    for pump in (
        slicer.app.processEvents,
        qt.QApplication.processEvents,
        qt.QCoreApplication.processEvents,
        qt.QEventLoop().exec_,
        cursor,
    ):
        with slicer_standin.problems.expected("never turns the event loop"):
            pump()
    qt.QApplication.restoreOverrideCursor()


def test_boxes_are_answered_by_the_test(slicer_standin, qt):
    slicer_standin.answer(qt.QMessageBox.Yes, "/a/file.nrrd", lambda message: message.title)
    assert qt.QMessageBox.question(None, "Title", "Sure?") == qt.QMessageBox.Yes
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "/a/file.nrrd"
    dialog = qt.QDialog()
    dialog.windowTitle = "Choose"
    assert dialog.exec_() == "Choose"
    assert [message.kind for message in slicer_standin.messages] == ["question", "modal", "modal"]
    with slicer_standin.problems.expected("no answer"):
        qt.QMessageBox.warning(None, "Title", "Really?")


# CTK


def test_ctk_shows_only_properties_slots_and_signals(ctk):
    slider, section, folder = ctk.ctkSliderWidget(), ctk.ctkCollapsibleButton(), ctk.ctkDirectoryButton()
    for widget, name in ((slider, "setMaximum"), (section, "setCollapsed"), (folder, "setDirectory")):
        assert not hasattr(widget, name)
    with pytest.raises(ValueError, match="wrong arguments"):
        ctk.ctkCollapsibleButton("Inputs")
    with pytest.raises(AttributeError):
        ctk.ctkRainbow  # noqa: B018


def test_ctk_slider(ctk):
    slider, seen = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", seen.append)
    slider.minimum, slider.maximum, slider.decimals, slider.suffix = -1, 1, 3, " HU"
    slider.setValue(0.125)
    slider.value = 5
    assert (slider.value, seen) == (1.0, [0.125, 1.0])
    with pytest.raises(ValueError, match="setValue"):
        slider.setValue("0.5")


def test_ctk_section_hides_its_content(qt, ctk):
    section, hidden, shown = ctk.ctkCollapsibleButton(), qt.QLabel("hidden"), qt.QLabel("shown")
    layout = qt.QVBoxLayout(section)
    layout.addWidget(hidden)
    layout.addWidget(shown)
    hidden.visible = False
    section.show()
    opened = section.sizeHint.height()
    section.collapsed = True
    assert (section.checked, shown.isVisible()) == (False, False)
    assert section.sizeHint.height() < opened
    section.click()
    assert (section.collapsed, shown.isVisible(), hidden.isVisible()) == (False, True, False)


def test_ctk_paths(slicer_standin, ctk, tmp_path):
    line, folder, seen = ctk.ctkPathLineEdit(), ctk.ctkDirectoryButton(), []
    line.connect("currentPathChanged(QString)", seen.append)
    folder.connect("directoryChanged(QString)", seen.append)
    line.currentPath = "/a/b"
    folder.directory = str(tmp_path)
    folder.directory = str(tmp_path)
    slicer_standin.answer(str(tmp_path.parent))
    folder.browse()
    assert seen == ["/a/b", str(tmp_path), str(tmp_path.parent)]
    with pytest.raises(AttributeError):
        folder.directory = tmp_path
