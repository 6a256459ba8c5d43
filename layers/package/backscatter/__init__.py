"""Backscatter: is this alert real, or the answer of a flooded stranger to packets forged with our address?

The package reads as the data flows; nothing imports from a later room:

    capture   bytes -> records              decode    records -> packet columns
    flow      packet columns -> flow table  finding   alert formats -> Finding
    verdict   Finding + scene -> Verdict    report    Verdict -> text, chat message, page
    store     segments, catalogue, pending findings, verdicts
    cloud     adapters to S3, SNS, DynamoDB; what the two functions do
    cli       the command line
"""

__version__ = "0.1.0"
