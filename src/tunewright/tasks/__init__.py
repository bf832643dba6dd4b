"""Tasks: what is learned from a row. One file each, found by its name; `base` says what a task must offer."""

_PREFERENCE = {loss: f"task=preference task.loss={loss}" for loss in ("dpo", "ipo", "kto", "orpo", "simpo")}
ALSO_CALLED = {
    **_PREFERENCE,
    **dict.fromkeys(("rm", "reward-model", "reward_model", "reward-modeling"), "task=reward"),
    **dict.fromkeys(("pt", "pretraining", "lm", "causal-lm", "causal_lm", "text-generation"), "task=clm"),
    **dict.fromkeys(("masked-lm", "masked_lm", "fill-mask"), "task=mlm"),
    **dict.fromkeys(("instruction", "chat", "supervised"), "task=sft"),
    **dict.fromkeys(("text-classification", "sequence-classification", "sentiment-analysis"), "task=classification"),
    **dict.fromkeys(("token-classification", "token_classification"), "task=ner"),
}
"""What other toolkits call a task -> how it is asked for here."""
