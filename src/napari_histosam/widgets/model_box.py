"""Which model answers: choose it, see whether it is ready, bring its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # qtpy gives it at run time
from qtpy.QtWidgets import QFileDialog, QLabel, QVBoxLayout, QWidget

from napari_histosam.jobs import Progress
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.learning.result import card_lines
from napari_histosam.widgets.parts import button, choice, label, note, row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.jobs import CancelToken, JobRunner
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.workbench import Workbench

READY, ABSENT, LOADING = "#22c55e", "#9ca3af", "#facc15"


class ModelBox(QWidget):
    """The row of the model.

    Parameters
    ----------
    workbench : Workbench
    jobs : JobRunner
        Downloads run there.
    """

    said = Signal(str)
    job_started = Signal(object)

    def __init__(self, workbench: Workbench, jobs: JobRunner) -> None:
        super().__init__()
        self._workbench = workbench
        self._jobs = jobs
        self._controller: Controller | None = None
        self._filling = False
        self.choice = choice()
        self.choice.currentIndexChanged.connect(self._chosen)
        self.state = QLabel()
        self.card_text = note()
        self.consent = button("Agree and use", "Accept the licence of these weights", self._agree)
        self.fetch = button(
            "Download", "Fetch the weights into this computer's model folder", self._download
        )
        self.bring = button(
            "Import file…",
            "Take a weights file that you have, or all files of a model",
            self._import,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(label("Model"), self.choice, self.state))
        layout.addWidget(self.card_text)
        layout.addLayout(row(self.consent, self.fetch, self.bring, stretch=True))
        self.refresh()

    def show_controller(self, controller: Controller | None) -> None:
        """Follow another session."""
        if self._controller is not None:
            self._controller.session.model_changed.disconnect(self._loaded)
            self._controller.session.failed.disconnect(self._on_failed)
        self._controller = controller
        if controller is not None:
            controller.session.model_changed.connect(self._loaded)
            controller.session.failed.connect(self._on_failed)
        self.refresh(self._workbench.model)

    def say(self, text: str) -> None:
        """Tell the user something."""
        self.said.emit(text)

    def refresh(self, chosen: str | None = None) -> None:
        """List the models again."""
        self._filling = True
        wanted = chosen or self.choice.currentData() or self._workbench.model
        self.choice.clear()
        registry = self._workbench.registry
        for card in registry.cards().values():
            if not card.takes:
                continue
            mark = "" if registry.is_ready(card.name) else " (absent)"
            self.choice.addItem(card.name + mark, card.name)
        self.choice.setCurrentIndex(max(0, self.choice.findData(wanted)))
        self._filling = False
        self._show_card()

    @property
    def card(self) -> ModelCard:
        """The card of the model in the list."""
        return self._workbench.registry.get(self.choice.currentData())

    def _chosen(self, _index: int) -> None:
        if self._filling:
            return
        self._show_card()
        self._use()

    @told
    def _use(self) -> None:
        registry, name = self._workbench.registry, self.card.name
        if registry.is_ready(name) and not registry.needs_consent(name):
            self._workbench.set_model(name)
            self._show_card()

    def _loaded(self, card: ModelCard) -> None:
        self.refresh(card.name)

    def _on_failed(self, _text: str) -> None:
        """Show the model that goes on answering, should another one have failed to load."""
        session = self._controller.session if self._controller else None
        if session is not None and session.device and session.card.name != self.card.name:
            self.refresh(session.card.name)

    def _show_card(self) -> None:
        registry, card = self._workbench.registry, self.card
        ready = registry.is_ready(card.name)
        session = self._controller.session if self._controller else None
        asks = registry.needs_consent(card.name)
        if asks:
            colour, text = LOADING, "licence"
        elif not ready:
            colour, text = ABSENT, "absent"
        elif session is None:
            colour, text = READY, "ready"
        elif session.card.name == card.name and session.device:
            colour, text = READY, f"ready · {session.device.upper()}"
        else:
            colour, text = LOADING, "loading"
        self.state.setText(f'<span style="color:{colour}">●</span> {text}')
        self.card_text.setText(_brief(card) + ("" if ready else self._meanwhile()))
        self.card_text.setToolTip(_describe(card))
        self.choice.setToolTip(_describe(card))
        self.consent.setVisible(asks)
        fetchable = bool(card.files) and all(f.url for f in card.files)
        self.fetch.setVisible(not ready and not asks and fetchable)
        self.bring.setVisible(not ready)

    def _meanwhile(self) -> str:
        """Return what absent weights mean for the user."""
        text = "\nIts weights are not on this computer."
        if self._controller is None:
            return text
        return f"{text} Until they are, {self._controller.session.card.name} goes on answering."

    @told
    def _agree(self) -> None:
        self._workbench.registry.accept_licence(self.card.name)
        self._show_card()
        self._use()

    def _download(self) -> None:
        registry, name = self._workbench.registry, self.card.name

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> str:
            def tell(done: int, total: int | None) -> None:
                report(Progress(done, total, f"Downloading {name}"))

            registry.download(name, tell, lambda: cancel.cancelled)
            return name

        running = self._jobs.start(f"Downloading {name}", job)
        running.finished.connect(self._arrived)
        self.fetch.setEnabled(False)
        for signal in (running.finished, running.failed, running.cancelled):
            signal.connect(self._may_fetch)
        self.job_started.emit(running)

    def _may_fetch(self, *_: Any) -> None:
        self.fetch.setEnabled(True)

    def _arrived(self, name: str) -> None:
        self.refresh(name)
        absent = self._workbench.registry.absent(name)
        if absent:
            self.said.emit(f"The file is in its place; {name} still needs {' and '.join(absent)}.")
        else:
            self.said.emit(f"{name} is here and ready.")
        self._use()

    def _import(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(
            self, "Import weights", "", "Weights (*.pth *.pt *.safetensors *.ckpt);;All files (*)"
        )
        if paths:
            self.import_files([Path(path) for path in paths])

    def import_files(self, paths: Sequence[Path]) -> None:
        """Take a weights file, or all parts of a model, into the folder, in the background."""
        registry = self._workbench.registry
        names = ", ".join(path.name for path in paths)

        def job(report: Callable[[Progress], None], cancel: CancelToken) -> str:
            report(Progress(0, None, f"Reading {names}"))
            return registry.import_files(paths).name

        running = self._jobs.start(f"Importing {names}", job)
        running.finished.connect(self._arrived)
        self.job_started.emit(running)


def _brief(card: ModelCard) -> str:
    """Return the card in a line: licence, scale, size; and two on how it was trained here."""
    scale = f"{card.mpp:g} µm/px" if card.mpp else "follows the zoom"
    size = sum(f.bytes or 0 for f in card.files)
    weight = f" · {size / 1e6:.0f} MB" if size else ""
    lines = [f"{card.licence.split(' (')[0]} · {scale}{weight}", *card_lines(card)[:2]]
    return "\n".join(lines)


def _describe(card: ModelCard) -> str:
    """Return the whole card for a tooltip."""
    kinds = ", ".join(card.prompts)
    lines = [card.title, f"Takes: {kinds}", f"Licence: {card.licence}", *card_lines(card)]
    if card.trained is None:
        lines.append(card.note)
    return "\n".join(line for line in lines if line)
