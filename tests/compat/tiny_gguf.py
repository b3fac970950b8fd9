"""A tiny model with random weights for llama.cpp: `python tiny_gguf.py FILE`.

It writes gibberish, always the same. Its vocabulary holds every byte and some English words, so it
takes any text, and any text may come out of it.
"""

import sys

import gguf
import numpy

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 64, 2, 4, 128, 32768
WORDS = """\
    the of and to in a is that it was for on are as with his they at be this from I have or by
    one had not but what all were when we there can an your which their said if do will
    each about how up out them then she many some so these would other into has more her
    two like him see time could no make than first been its who now people my made over
    did down only way find use may water long little very after words called just where
    most know""".split()
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n"
    "{% endfor %}<assistant>"
)


def write(path: str, seed: int = 0) -> None:
    """Write the model to a file."""
    chance = numpy.random.default_rng(seed)
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *(f"\u2581{word}" for word in WORDS),
    ]
    kinds = [
        gguf.TokenType.UNKNOWN,
        *[gguf.TokenType.CONTROL] * 2,
        *[gguf.TokenType.BYTE] * 256,
        *[gguf.TokenType.NORMAL] * len(WORDS),
    ]
    model = gguf.GGUFWriter(path, "llama")
    model.add_name("tiny-random")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(HIDDEN)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_file_type(gguf.LlamaFileType.ALL_F32)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("llama")
    model.add_token_list([token.encode() for token in tokens])
    model.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(len(WORDS))])
    model.add_token_types(kinds)
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)
    model.add_unk_token_id(0)
    model.add_add_bos_token(True)
    model.add_chat_template(TEMPLATE)

    def random(name, *shape, scale=0.15):
        model.add_tensor(
            f"{name}.weight", (chance.standard_normal(shape) * scale).astype(numpy.float32)
        )

    def ones(name):
        model.add_tensor(f"{name}.weight", numpy.ones(WIDTH, numpy.float32))

    random("token_embd", len(tokens), WIDTH, scale=1.0)
    ones("output_norm")
    random("output", len(tokens), WIDTH, scale=0.5)
    for layer in range(LAYERS):
        ones(f"blk.{layer}.attn_norm")
        ones(f"blk.{layer}.ffn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            random(f"blk.{layer}.{name}", WIDTH, WIDTH)
        random(f"blk.{layer}.ffn_gate", HIDDEN, WIDTH)
        random(f"blk.{layer}.ffn_up", HIDDEN, WIDTH)
        random(f"blk.{layer}.ffn_down", WIDTH, HIDDEN)
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


if __name__ == "__main__":
    write(sys.argv[1])
