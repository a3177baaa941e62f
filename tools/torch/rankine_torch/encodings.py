"""Block encodings of docs/factorization.md to floats and back, exactly as the engine decodes them.

A core of shape [..., n] is stored as rows of its last leg; groups run along n. Codes are packed from the low bits of
each byte up, each row at a byte. Tensors come by role: codes, scales, offsets, super_scales, super_offsets.
"""

import torch

from .errors import InputError

FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SUPER_BLOCK = 256
SCALE_CODE_BITS = 6
# The sixteen levels of NF4 (QLoRA, arXiv 2305.14314, appendix E).
NF4_LEVELS = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])


def unpack_codes(packed, count, bits):
    """[rows, ceil(count bits / 8)] u8 -> [rows, count] i64."""
    one_bits = (packed[:, :, None].to(torch.int16) >> torch.arange(8)) & 1
    one_bits = one_bits.reshape(packed.shape[0], -1)[:, :count * bits].reshape(packed.shape[0], count, bits)
    return (one_bits.long() << torch.arange(bits)).sum(-1)


def pack_codes(codes, bits):
    """The inverse; the unused high bits of each row's last byte are zero."""
    rows, count = codes.shape
    one_bits = ((codes[:, :, None].long() >> torch.arange(bits)) & 1).reshape(rows, count * bits)
    one_bits = torch.nn.functional.pad(one_bits, (0, -count * bits % 8))
    return (one_bits.reshape(rows, -1, 8) << torch.arange(8)).sum(-1).to(torch.uint8)


def e8p_table():
    """Magnitude codes of the 256 entries of E8P [256, 8] (QuIP#, arXiv 2402.04396; kernels/base/e8p.h): the 227 vectors
    of 1/2, 3/2 and 5/2 with squared norm up to 10, then the first 29 of norm 12 with five 3/2."""
    patterns = torch.arange(1 << 16)
    codes = (patterns[:, None] >> (2 * torch.arange(8))) & 3
    excess = torch.where(codes == 2, 6, 2 * codes).sum(1)
    small = codes[(codes != 3).all(1) & (excess <= 8)]
    large = codes[(codes <= 1).all(1) & (codes.sum(1) == 5)]
    return torch.cat([small, large[:256 - len(small)]])


def decode_e8p(packed, scale):
    """packed [rows, n / 4] u8 -> [rows, n]."""
    rows = packed.shape[0]
    words = packed.reshape(rows, -1, 2).long()
    words = words[:, :, 0] | words[:, :, 1] << 8
    codes = e8p_table()[words & 0xff]
    signs = (words[:, :, None] >> (8 + torch.arange(7))) & 1
    # Column 7's sign makes the sum of the vector even.
    odd = ((codes & 1).sum(-1) + signs.sum(-1)) & 1
    negative = torch.cat([signs, odd[:, :, None]], -1).bool()
    quarters = torch.where(negative, -(4 * codes + 2), 4 * codes + 2) + torch.where(words >> 15 == 1, 1, -1)[:, :, None]
    return scale.float() * (quarters.float() / 4).reshape(rows, -1)


def _per_column(numbers, cols, width):
    return numbers.repeat_interleave(width, dim=1)[:, :cols]


def _group_numbers(encoding, kind, tensors, role, cols, group):
    """Scales or offsets of each column [rows, cols] f32: product of two levels exact, or as stored."""
    stored = tensors[role].reshape(-1, tensors[role].shape[-1])
    if kind not in ("two_level", "two_level_i8"):
        return _per_column(stored.float(), cols, group)
    groups = -(-cols // group)
    small = stored.float() if kind == "two_level_i8" else unpack_codes(stored, groups, SCALE_CODE_BITS).float()
    supers = tensors["super_" + role]
    large = _per_column(supers.reshape(-1, supers.shape[-1]).float(), groups, SUPER_BLOCK // group)
    return _per_column(large * small, cols, group)


def group_columns(encoding, cols):
    return cols if encoding["group"] == "row" else encoding["group"]


def decode(encoding, tensors, shape):
    """Values f32 `shape` of a core stored in `encoding`; `tensors` by role."""
    kind, cols = encoding["kind"], shape[-1]
    if kind == "float":
        return tensors["values"].float()
    packed = tensors["codes"].reshape(-1, tensors["codes"].shape[-1])
    if kind == "e8p":
        return decode_e8p(packed, tensors["scales"]).reshape(shape)
    group = group_columns(encoding, cols)
    scales = _group_numbers(encoding, encoding["scale"], tensors, "scales", cols, group)
    if kind == "nf4":
        return (scales * NF4_LEVELS[unpack_codes(packed, cols, 4)]).reshape(shape)
    bits, offset = encoding["bits"], encoding["offset"]
    zero = 1 << (bits - 1) if offset == "none" else 0
    values = scales * (unpack_codes(packed, cols, bits) - zero).float()
    if offset != "none":
        kind = "two_level" if offset == "two_level" else "one_level"
        values = values + _group_numbers(encoding, kind, tensors, "offsets", cols, group)
    return values.reshape(shape)


def can_encode(encoding):
    """float, affine and nf4 with one level of scales; the others are read, not written."""
    return encoding["kind"] == "float" or (encoding["kind"] in ("affine", "nf4") and
                                           encoding["scale"] in ("f16", "f32"))


def encode(encoding, values):
    """Tensors by role that hold `values` [..., n] best, of a few scales for each group, in the squared error."""
    if encoding["kind"] == "float":
        dtype = FLOATS[encoding["dtype"]]
        if not torch.isfinite(values.to(dtype)).all():
            raise InputError(f"a value does not fit in {encoding['dtype']}")
        return {"values": values.to(dtype)}
    assert can_encode(encoding)
    shape, cols = values.shape, values.shape[-1]
    group = group_columns(encoding, cols)
    dtype = FLOATS[encoding["scale"]]
    x = torch.nn.functional.pad(values.reshape(-1, cols).float(), (0, -cols % group)).reshape(-1, group)
    real = torch.nn.functional.pad(torch.ones(1, cols, dtype=torch.bool), (0, -cols % group))
    real = real.expand(values.numel() // cols, -1).reshape(-1, group)
    codes, scales, offsets = _fit_groups(encoding, x, real, dtype)
    groups = -(-cols // group)
    codes = codes.reshape(-1, groups * group)[:, :cols]
    bits = 4 if encoding["kind"] == "nf4" else encoding["bits"]
    lead = shape[:-1]
    out = {"codes": pack_codes(codes, bits).reshape(*lead, -1), "scales": scales.to(dtype).reshape(*lead, groups)}
    if offsets is not None:
        out["offsets"] = offsets.to(dtype).reshape(*lead, groups)
    return out


def _nearest(encoding, x, scale, offset, zero):
    """Codes [G, g] and their values under scale and offset [G, 1]."""
    unit = (x - offset) / torch.where(scale == 0, torch.ones_like(scale), scale)
    if encoding["kind"] == "nf4":
        codes = torch.bucketize(unit.contiguous(), (NF4_LEVELS[1:] + NF4_LEVELS[:-1]) / 2)
        return codes, scale * NF4_LEVELS[codes]
    codes = (unit.round() + zero).clamp(0, (1 << encoding["bits"]) - 1)
    return codes.long(), scale * (codes - zero) + offset


def _least_squares(encoding, x, real, codes, zero, has_offsets):
    """Scale and offset [G, 1] that fit these codes best, with the offset zero where there is none."""
    q = (NF4_LEVELS[codes] if encoding["kind"] == "nf4" else (codes - zero).float()) * real
    x, count = x * real, real.sum(1, keepdim=True).float()
    if not has_offsets:
        return (x * q).sum(1, keepdim=True) / q.square().sum(1, keepdim=True).clamp_min(1e-30), torch.zeros_like(count)
    mean_x, mean_q = x.sum(1, keepdim=True) / count, q.sum(1, keepdim=True) / count
    centred = (q - mean_q) * real
    scale = (centred * x).sum(1, keepdim=True) / centred.square().sum(1, keepdim=True).clamp_min(1e-30)
    return scale, mean_x - scale * mean_q


def _fit_groups(encoding, x, real, dtype):
    has_offsets = encoding["kind"] == "affine" and encoding["offset"] != "none"
    absent = ~real
    low = x.masked_fill(absent, float("inf")).amin(1, keepdim=True)
    high = x.masked_fill(absent, float("-inf")).amax(1, keepdim=True)
    zero, offset = 0, torch.zeros_like(low)
    if encoding["kind"] == "nf4":
        cover = torch.maximum(low.abs(), high.abs())
    elif has_offsets:
        cover, offset = (high - low) / ((1 << encoding["bits"]) - 1), low
    else:
        zero = 1 << (encoding["bits"] - 1)
        # The weight of greatest magnitude takes the code of greatest magnitude, -2^(b-1).
        cover = torch.where(high.abs() > low.abs(), high, low) / -zero
    best = None

    def attempt(scale, shift):
        nonlocal best
        scale, shift = scale.to(dtype).float(), shift.to(dtype).float() if has_offsets else shift
        codes, decoded = _nearest(encoding, x, scale, shift, zero)
        error = ((decoded - x) * real).square().sum(1, keepdim=True)
        new = [torch.where(torch.isfinite(error), error, torch.inf), codes, scale, shift]
        if best is None:
            best = new
        better = new[0] < best[0]
        best = [torch.where(better, n, b) for n, b in zip(new, best)]

    for factor in torch.linspace(0.75, 1.15, 17).tolist() + [1.0]:
        shift = (1 - factor) / 2 * cover * ((1 << encoding["bits"]) - 1) if has_offsets else 0
        attempt(cover * factor, offset + shift)
    for _ in range(3):  # new codes have a new best fit
        attempt(*_least_squares(encoding, x, real, best[1], zero, has_offsets))
    if not torch.isfinite(best[2]).all():
        raise InputError(f"a scale does not fit in {encoding['scale']}")
    return best[1], best[2], best[3] if has_offsets else None
