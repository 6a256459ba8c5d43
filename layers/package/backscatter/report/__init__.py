"""From a verdict to what people and programs read: JSON, mail, chat message, page."""
