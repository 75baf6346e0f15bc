"""Run by MLflow when it loads a mriad model ("models from code"): the model file is data, this file is the code."""

from mriad.tracking.mlflow_store import declare_model

declare_model()
