"""Two models under the same protocol, and their difference with its interval: a run, and a class of transformers."""

from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

import ettin_core as ettin
from analysis.compare import compare

short = ["recipe.tokens=12000", "data.documents=1500", "data.vocab_size=1024"]
run = ettin.train(*short, size="nano", member="encoder", data="world", recipe="smoke")

# The other model is ModernBERT of the same shape, untrained. Any folder or hub id with a language-model head would do.
exported = run.export()
AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(exported)).save_pretrained("untrained")
AutoTokenizer.from_pretrained(exported).save_pretrained("untrained")

protocol = "suite.protocols=[heldout_mlm]"
ours = ettin.evaluate(run, protocol, suite="smoke")
theirs = ettin.evaluate("untrained", protocol, suite="smoke", corpus=run.corpus.name)
frame = compare([ours.path], [theirs.path], margin=None, cluster=None)
for row in frame.to_dict("records"):
    print(
        f"{row['question']} {row['metric']}: {row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {row['words']}"
    )
