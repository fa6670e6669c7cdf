"""Names of the files of a model on the hub, and in a folder with its weights."""

WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in open_clip's order of preference
CONFIG_FILE = "open_clip_config.json"  # describes the model and how its frames are prepared
TOKENIZER_FILE = "tokenizer.json"
DESCRIPTION_FILE = "config.json"  # of a text tower that is a model of its own, in the repository of that model
LOCAL_DESCRIPTION_FILE = "text_config.json"  # the same next to weights
SETTINGS_FILE = "tokenizer_config.json"  # of the tokenizer; not every repository has it
