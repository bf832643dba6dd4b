"""A template: conversations as telegrams, in Jinja as Hugging Face's chat templates are."""

TEMPLATE = (
    "{% for message in messages %}{{ message.role | upper }}: {{ message.content }} STOP\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
