"""Adapters: small trained parts on a base whose weights stay as they are. One file each, found by its name.

    adapter: lora        ->  adapters/lora.py: Options (what the config says), Adapter (what PEFT is told)

`base` says what an adapter is and puts one on a model; what a run keeps of it is written by `adapted`.
"""

NOT_PLUGINS = frozenset({"peft_files"})
