"""The training loop: plain PyTorch that knows nothing of Ray, MLflow or paths."""
