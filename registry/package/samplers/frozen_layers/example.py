"""What the README shows."""

import optuna
import optunahub
import torch

inputs = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
targets = inputs.square().sum(1, keepdim=True).sqrt()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=32)


def objective(trial):
    sizes = [8, 32, 32, 32]
    blocks = [torch.nn.Sequential(torch.nn.Linear(a, b), torch.nn.ReLU()) for a, b in zip(sizes, sizes[1:])]
    model = torch.nn.Sequential(*blocks, torch.nn.Linear(32, 1))
    trial.freeze(model)
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    optimizer = torch.optim.AdamW(trial.parameters, lr=rate)
    for batch, wanted in trial.batches(loader):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(batch), wanted).backward()
        optimizer.step()
    return torch.nn.functional.mse_loss(model(inputs), targets).item()


frozen_layers = optunahub.load_module("samplers/frozen_layers")
study = optuna.create_study(study_name="frozen layers", sampler=optuna.samplers.TPESampler())
result = frozen_layers.optimize(study, objective, samples=4 * 256, budget=4)
print(result)
print(study.best_value, study.best_params)
