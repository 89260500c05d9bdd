"""The stages of a training from patch labels, one after another, each done once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_histosam.models.ep_sam.frame import Recipe
from napari_histosam.models.ep_sam.model import EpSamModel
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.patchwise.base import DECODER, begun, card_of
from napari_histosam.train.patchwise.classifier import ClassifierStage
from napari_histosam.train.patchwise.course import CLASSIFIER, Course, round_name
from napari_histosam.train.patchwise.loop import StageLoop
from napari_histosam.train.patchwise.patches import Patches
from napari_histosam.train.patchwise.pseudo import INITIAL, Shelf, initial_masks, pseudo_masks
from napari_histosam.train.patchwise.rounds import DecoderStage, Embedded
from napari_histosam.train.windowed.validation import spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_fabric import Fabric

    from napari_histosam.train.patchwise.division import PatchDivision
    from napari_histosam.train.patchwise.labels import PatchEntry
    from napari_histosam.train.patchwise.loop import Ending, Stage
    from napari_histosam.train.patchwise.plan import PatchPlan
    from napari_histosam.train.patchwise.pseudo import Judged

# Positive patches that a validation of the decoder looks at, spread over all.
_VALIDATED = 32


class Stages:
    """One process's work on a plan.

    Parameters
    ----------
    fabric : Fabric
    plan : PatchPlan
    division : PatchDivision
    base_hash : str
    """

    def __init__(
        self, fabric: Fabric, plan: PatchPlan, division: PatchDivision, base_hash: str
    ) -> None:
        if plan.threads is not None:
            torch.set_num_threads(plan.threads)
        registry = ModelRegistry()
        self._plan, self._division, self._fabric = plan, division, fabric
        self._folder = RunFolder(plan.out)
        self._course = Course(plan, self._folder, division.content_hash())
        self._card = card_of(registry.get(plan.model), plan)
        self._recipe = Recipe.of(self._card)
        net, self._own = begun(registry, plan)
        self._net = net.to(fabric.device)
        side = self._card.window_px
        self._patches, self._shelf = Patches(side), Shelf(plan.out, side)
        self._embedded = Embedded(
            *(self._net, self._recipe, self._patches, self._folder.features),
            *(base_hash, fabric.device),
        )

    def run(self) -> None:
        """Do all stages that are left, and tell how it ended."""
        if not self._classify():
            return
        tumour = self._heat()
        if tumour is None:
            return
        learned = {e: tumour[e.name] for e in self._division.train if e.tumour}
        judged = self._shelf.read_list(INITIAL)
        if judged is None:
            judged = initial_masks(self._shelf, learned, self._recipe.profile)
        where: str = INITIAL
        for number in range(self._plan.rounds + 1):
            names = {one.name for one in judged if one.kept}
            if not names:
                self._tell_empty(where, judged)
                break
            ending = self._decode(number, where, names)
            if ending == "paused":
                return
            if ending == "finished":
                break
            again = self._relabel(number, learned)
            if again is None:
                return
            judged, where = again, str(number)
        self._close()

    def _classify(self) -> bool:
        """Teach the classifier; tell whether to go on."""
        ending: Ending = "done"
        if CLASSIFIER not in self._course.done:
            division = self._division
            ending = self._drive(
                ClassifierStage(
                    *(self._plan, self._net.classifier, self._patches),
                    *(division.train, division.val, self._fabric.autocast),
                )
            )
            if ending == "paused":
                return False
        if CLASSIFIER not in self._course.done:
            self._folder.tell(
                "done",
                "Finished early, as asked, before the first epoch ended: there is no new model.",
                early=True,
                best_epoch=0,
            )
            self._folder.finished()
            return False
        self._net.classifier.load_state_dict(self._course.read_part(CLASSIFIER))
        self._rest()
        if ending == "finished" or self._plan.until == CLASSIFIER:
            self._close()
            return False
        return True

    def _heat(self) -> dict[str, float] | None:
        """Write the heat maps that are not there yet; return probabilities, None if paused."""
        model = EpSamModel(self._card, self._net, "", str(self._fabric.device), self._folder.note)
        entries = [e for e in (*self._division.train, *self._division.val) if e.tumour]
        known = self._shelf.tumour()
        for number, entry in enumerate(entries, 1):
            if entry.name in known and self._shelf.heat(entry) is not None:
                continue
            if self._folder.asked_to_stop():
                self._shelf.keep_tumour(known)
                self._folder.tell("paused", "Paused while making heat maps.")
                return None
            known[entry.name], heat = model.heat(self._patches.of(entry))
            self._shelf.keep_heat(entry, heat)
            told = f"Heat maps: {number} of {len(entries)}."
            self._folder.tell("running", told, stage="heat", step=number, steps=len(entries))
        self._shelf.keep_tumour(known)
        self._rest()
        return known

    def _decode(self, number: int, where: str, names: set[str]) -> Ending:
        """Teach the decoder by the masks of a folder, from SAM's own on."""
        name, decoder = round_name(number), self._net.sam.mask_decoder
        decoder.load_state_dict(self._own)
        ending: Ending = "done"
        if name not in self._course.done:
            chosen = [entry for entry in self._division.train if entry.name in names]
            held = spread([entry for entry in self._division.val if entry.tumour], _VALIDATED)
            heats = [(entry, self._shelf.heat(entry)) for entry in held]
            ending = self._drive(
                DecoderStage(
                    *(self._plan, number, self._net, self._recipe, self._embedded),
                    [(entry, self._shelf.mask(where, entry)) for entry in chosen],
                    [(entry, heat) for entry, heat in heats if heat is not None],
                    self._fabric.autocast,
                )
            )
        if name in self._course.done:
            decoder.load_state_dict(self._course.read_part(name))
        self._rest()
        return ending

    def _relabel(self, number: int, learned: Mapping[PatchEntry, float]) -> list[Judged] | None:
        """Have the decoder answer all positive patches, if it did not yet; None if paused."""
        where, count = str(number), len(learned)

        def goes_on(done: int) -> bool:
            told = f"Pseudo-masks after {round_name(number)}: {done} of {count}."
            self._folder.tell("running", told, step=done, steps=count)
            return not self._folder.asked_to_stop()

        found = self._shelf.read_list(where)
        if found is None:
            answer, least = self._embedded.answer, self._plan.agreement
            found = pseudo_masks(self._shelf, where, learned, answer, least, goes_on)
        if found is None:
            self._folder.tell("paused", "Paused while making pseudo-masks.")
        return found

    def _drive(self, stage: Stage) -> Ending:
        loop = StageLoop(self._course, stage)
        ending = loop.run()
        if ending == "paused":
            self._folder.tell("paused", f"Paused at {loop.where()}.")
        return ending

    def _rest(self) -> None:
        self._net.eval().requires_grad_(False)

    def _tell_empty(self, where: str, judged: list[Judged]) -> None:
        if where == INITIAL:
            self._folder.note(
                "No heat map shows anything: label more patches, or train the classifier longer "
                "(--epochs, --rate)."
            )
            return
        best = max(one.ids for one in judged)
        self._folder.note(
            f"No pseudo-mask agrees with its heat map to {self._plan.agreement:g} (the best to "
            f"{best:.2f}), so the rounds end here: give a lower --agreement or --percentile."
        )

    def _close(self) -> None:
        """Write what was learned, and say that the run is done."""
        course = self._course
        last = course.rounds[-1] if course.rounds else None
        decoder = self._own if last is None else course.read_part(last)
        whole = {f"classifier/{k}": v for k, v in course.read_part(CLASSIFIER).items()}
        whole |= {f"decoder/{DECODER}{k}": v.contiguous() for k, v in decoder.items()}
        self._folder.save_best(whole, {"base": self._plan.model, "method": self._plan.method})
        first = course.done[CLASSIFIER]
        message = (
            f"The classifier is right about {first['val_accuracy']:.0%} of the patches held out "
            f"(AUC {first['val_auc']:.2f})"
        )
        if last is None:
            message += "; the decoder is still SAM's own."
        else:
            share = course.done[last]["val_ids"]
            message += f"; after {last}, {share:.0%} of what the decoder outlines in them is warm."
        end = course.done[last or CLASSIFIER]
        self._folder.tell(
            "done",
            f"{message} Labels of patches alone chose all of it.",
            stage=last or CLASSIFIER,
            best_epoch=end["best_epoch"],
            stages=course.done,
            early=self._folder.asked_to_finish(),
        )
        self._folder.finished()
