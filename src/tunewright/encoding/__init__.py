"""Examples -> rows of token ids, for each kind of task: rendered chats, pairs, tags, packed documents, masks."""
