"""Pretrained networks loaded with a task's head, and what is changed about them."""
