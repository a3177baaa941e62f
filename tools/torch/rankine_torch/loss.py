"""Losses of a causal language model, computed a few positions at a time.

Logits of a vocabulary of 49152 for 2048 positions take 400 MB in f32, and autograd keeps several of them. Here each
slice of positions makes its logits, its loss and the gradient of its hidden states, and forgets the logits.
"""

import torch
from torch.nn import functional

SLICE = 256  # positions


def _slice_loss(logits, targets, teacher_logits, share):
    """Sum over positions of (1 - share) x cross-entropy + share x KL(teacher || student)."""
    loss = logits.new_zeros(())
    if share < 1:
        loss = loss + (1 - share) * functional.cross_entropy(logits, targets, reduction="sum")
    if share > 0:
        student, teacher = (torch.log_softmax(x, -1) for x in (logits, teacher_logits))
        loss = loss + share * functional.kl_div(student, teacher, reduction="sum", log_target=True)
    return loss


def hidden_states(model, tokens):
    """[windows, length - 1, hidden] of the positions that predict a token of the window."""
    return model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state


def loss_and_backward(model, tokens, scale, teacher=None, share=0.0):
    """Sum of the losses of all windows' positions; adds `scale` times its gradient to the parameters' .grad.

    tokens [windows, length]. teacher: a model of the same vocabulary; share of the KL in the loss, in [0, 1].
    """
    hidden = hidden_states(model, tokens)
    flat = hidden.detach().reshape(-1, hidden.shape[-1])
    targets = tokens[:, 1:].reshape(-1)
    taught = None
    if share > 0:
        with torch.no_grad():
            taught = hidden_states(teacher, tokens).flatten(0, 1)
    gradient, total = torch.empty_like(flat), 0.0
    for begin in range(0, len(flat), SLICE):
        part = flat[begin:begin + SLICE].requires_grad_()
        with torch.no_grad():
            teacher_logits = teacher.lm_head(taught[begin:begin + SLICE]) if taught is not None else None
        loss = _slice_loss(model.lm_head(part), targets[begin:begin + SLICE], teacher_logits, share)
        total += loss.item()
        gradient[begin:begin + SLICE], = torch.autograd.grad(loss * scale, part)
    hidden.backward(gradient.reshape(hidden.shape))
    return total


@torch.no_grad()
def mean_loss(model, windows, teacher=None, share=0.0, batch=4):
    """Mean loss over the predicted positions of all windows, as in loss_and_backward."""
    total = 0.0
    for begin in range(0, len(windows), batch):
        tokens = windows[begin:begin + batch]
        targets = tokens[:, 1:].reshape(-1)
        flat = hidden_states(model, tokens).flatten(0, 1)
        taught = hidden_states(teacher, tokens).flatten(0, 1) if share > 0 else None
        for at in range(0, len(flat), SLICE):
            part = slice(at, at + SLICE)
            teacher_logits = teacher.lm_head(taught[part]) if share > 0 else None
            total += _slice_loss(model.lm_head(flat[part]), targets[part], teacher_logits, share).item()
    return total / (len(windows) * (windows.shape[1] - 1))
