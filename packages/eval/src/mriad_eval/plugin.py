"""What the plugin `eval` offers: metrics, figures and the commands `preview` and `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.hookspecs import hookimpl

if TYPE_CHECKING:
    from mriad.hookspecs import RegisterCommand, RegisterComponent

MRIAD_API = 1


@hookimpl
def mriad_register_components(register: RegisterComponent) -> None:
    """Metrics, figures, the comparison and the controls of area."""
    from mriad_eval import (
        area_stage,
        comparison_config,
        csa_metrics,
        metrics,
        metrics_lesion,
        metrics_literal,
        metrics_person,
        metrics_slices,
        metrics_soft,
        reports,
        trial_figures,
    )

    register(metrics.Dice)
    register(metrics.SoftDice)
    register(metrics.AverageSurfaceDistance)
    register(metrics.AverageSymmetricSurfaceDistance)
    register(metrics.RelativeVolumeError)
    register(metrics.AbsoluteVolumeError)
    register(metrics.Sensitivity)
    register(metrics.Specificity)
    register(metrics.Precision)
    register(metrics.Volume)
    register(metrics.SoftVolume)
    register(metrics.HausdorffDistance)
    register(metrics.MaximumSymmetricSurfaceDistance)
    register(metrics.HausdorffPercentile)
    register(metrics.SurfaceDice)
    register(metrics_lesion.LesionF1)
    register(metrics_lesion.LesionSensitivity)
    register(metrics_lesion.LesionPredictiveValue)
    register(metrics_lesion.LesionFalsePositives)
    register(metrics_lesion.LesionCount)
    register(metrics_lesion.LesionLoad)
    register(metrics_soft.CalibrationError)
    register(metrics_soft.CalibrationCurve)
    register(metrics_slices.Slices)
    register(metrics_person.VolumeSpread)
    register(metrics_person.VolumeVariation)
    register(metrics_literal.AnimaLiteralASD)
    register(metrics_literal.SynthSegLiteralSurface)
    register(metrics_literal.SynthSegLiteralDice)
    register(metrics_literal.Ssl4misLiteralHd95)
    register(csa_metrics.Csa)
    register(csa_metrics.CsaAbsoluteError)
    register(csa_metrics.CsaStd)
    register(csa_metrics.CsaLiteralSct)
    register(comparison_config.CompareVariants)
    register(area_stage.AreaControl)
    register(trial_figures.Curves)
    register(trial_figures.Overlays)
    register(trial_figures.QualityControl)
    register(reports.Measure)
    register(reports.QualityControl)


@hookimpl
def mriad_register_commands(register: RegisterCommand) -> None:
    """Commands; their modules are imported when they are run."""
    register("preview", "mriad_eval.preview:preview", "Show augmented samples with label contours.")
    register("evaluate", "mriad_eval.evaluate:evaluate", "Score predictions against references.")
    register(
        "compare", "mriad_eval.compare_command:compare", "Say which variant is better, and whether by chance."
    )
    register(
        "report", "mriad_eval.report_command:report", "One HTML file of a study: verdict, tables and figures."
    )
    register("measure", "mriad_eval.measure:measure", "Measure volumes and cross-sectional area.")
