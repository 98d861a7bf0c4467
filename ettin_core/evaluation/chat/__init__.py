"""Chat: supervised fine-tuning and preference tuning with TRL, measured before and after.

rows.py         conversations and preferences from a file or the hub, checked and split by rule
template.py     the chat template, and which tokens of a conversation are answers
scoring.py      nats of answers, bits per byte, preference accuracy
model.py        what is tuned: a folder or hub id of a decoder, with or without a PEFT adapter
filling.py      the same of encoders, whose answers are masked and filled
trainers.py     TRL's trainers, with the whole prediction head
tuning.py       one tuning from base to folder: continued after a stop, whole or absent
table.py        what a tuning moved, in lines
"""
