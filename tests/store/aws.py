"""A table like the template's, in moto."""

from __future__ import annotations

import boto3
from botocore.config import Config


def make_table(monkeypatch, name: str = "flows"):
    """The client of a fresh table; to be called inside `mock_aws`."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    client = boto3.client("dynamodb", region_name="eu-west-1", config=Config(parameter_validation=False))
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    return client
