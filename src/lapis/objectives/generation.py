"""Captions from a decoder: the likeliest token each time, or several captions followed side by side.

Nothing is drawn at random.
"""

import torch

from lapis.objectives.decoder import Decoder
from lapis.ragged import Ragged


@torch.inference_mode()
def greedy(decoder: Decoder, *, memory: Ragged, start: int, end: int, max_tokens: int) -> list[list[int]]:
    """The likeliest token each time, all tokens so far read again at every step: the twin of a beam of one."""
    texts = []
    for clip in memory.split():
        text = [start]
        while len(text) <= max_tokens:
            device = clip.device
            rows = decoder(Ragged.pack([torch.tensor(text, device=device)]), memory=Ragged.pack([clip])).rows
            token = int((rows[-1] @ decoder.table.weight.T).float().argmax())
            if token == end:
                break
            text.append(token)
        texts.append(text[1:])
    return texts


@torch.inference_mode()
def beam_search(
    decoder: Decoder, *, memory: Ragged, beam: int, start: int, end: int, max_tokens: int
) -> list[list[int]]:
    """For each clip the caption with the highest mean log-probability a token, its end among them.

    A clip begins with `beam` places. Its likeliest continuations take them; one that ends keeps its place and is
    finished, and the rest go on in the places left.
    """
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(len(memory))]
    # Unfinished texts of each clip that has some, with the sums of their log-probabilities.
    alive: dict[int, list[tuple[float, list[int]]]] = {clip: [(0.0, [])] for clip in range(len(memory))}
    state = decoder.begin(memory)
    tokens = torch.full((len(memory),), start, device=memory.rows.device)
    for length in range(1, max_tokens + 1):
        logits, state = decoder.step(tokens, state)
        best = logits.float().log_softmax(-1).topk(min(beam, logits.shape[-1]), dim=-1)
        probable, following = best.values.tolist(), best.indices.tolist()
        parents, clips, going_on, first = [], [], {}, 0
        for place, (clip, texts) in enumerate(alive.items()):
            found = [
                (total + more, number, token)
                for number, (total, _) in enumerate(texts)
                for more, token in zip(probable[first + number], following[first + number], strict=True)
            ]
            found.sort(key=lambda one: (-one[0], one[1], one[2]))
            for total, number, token in found[: beam - len(finished[clip])]:
                text = texts[number][1]
                if token == end:
                    finished[clip].append((total / length, text))
                else:
                    going_on.setdefault(clip, []).append((total, [*text, token]))
                    parents.append(first + number)
            if clip in going_on:
                clips.append(place)
            first += len(texts)
        alive = going_on
        if not alive:
            break
        state = state.keep(parents, clips=clips, texts=[len(texts) for texts in alive.values()])
        tokens = torch.tensor([text[-1] for texts in alive.values() for _, text in texts], device=tokens.device)
    for clip, texts in alive.items():
        finished[clip] += [(total / max_tokens, text) for total, text in texts]
    return [max(texts, key=lambda one: one[0])[1] for texts in finished]
