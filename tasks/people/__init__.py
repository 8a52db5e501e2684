"""Ask people, and tell them: forms, questions, messages. Nothing here acts on what they answer."""
