# %% [markdown]
# # 2. Tokenizers learned on your own text
#
# Characters, whole words, and three kinds of subwords between them: WordPiece, BPE and Unigram.

# %% tags=["parameters"]
DATA = ["documents.txt"]  # your own text files
VOCAB_SIZE = 2_000
TEXT = "The ferry leaves at seven, unquestionably."
FOLDER = "tokenizers"

# %%
from pathlib import Path

from tunewright.pretrained.model_files import tokenizer_source
from tunewright.tokenizer_tools.corpus import Corpus
from tunewright.tokenizer_tools.recipe import Recipe
from tunewright.tokenizer_tools.show import show
from tunewright.tokenizer_tools.train import learn, save

lengths = {}
for algorithm in ("char", "word", "wordpiece", "bpe", "unigram"):
    folder = Path(FOLDER) / algorithm
    learned = learn(Corpus.open(DATA), Recipe(algorithm=algorithm, vocab_size=VOCAB_SIZE))
    save(learned, folder)
    shown = show(tokenizer_source(str(folder)), TEXT)
    lengths[algorithm] = len(shown.tokens)
    print(f"\n{algorithm}: {learned.vocab_size} entries, {len(shown.tokens)} tokens")
    print(" ".join(token.token for token in shown.tokens))

# %% [markdown]
# - **Characters** need a tiny vocabulary and make long rows.
# - **Words** make short rows, and a word that was not in the texts is `[UNK]`: its meaning is lost.
# - **Subwords** keep frequent words whole and spell rare ones in pieces. WordPiece marks a piece that continues a word with `##`;
#   BPE and Unigram mark the beginning of a word with `▁`. BPE joins the most frequent pair again and again; Unigram begins with many pieces
#   and drops those that help least.
#
# Each folder opens with `AutoTokenizer.from_pretrained`. The command for the same: `tunewright tokenizer train documents.txt --algorithm bpe`.
