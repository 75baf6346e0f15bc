"""Data sets written out with their splits, for other programs: nnU-Net raw, and BIDS with derivatives."""

from mriad_data.export.plan import Exported, ExportPlan, plan_export
from mriad_data.export.to_bids import export_bids
from mriad_data.export.to_nnunet import export_nnunet

__all__ = ["ExportPlan", "Exported", "export_bids", "export_nnunet", "plan_export"]
