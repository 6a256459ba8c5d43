"""A deployed stack as a person's machine sees it: found by its name in CloudFormation, read with their credentials."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from backscatter.cloud.stack import KEY_AT, Stack
from backscatter.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.store.items import Items

#: Outputs of the template that are needed here, and the name in a function's environment that stands for each.
_OUTPUTS = {"Table": "TABLE_NAME", "CaptureBucket": "CAPTURE_BUCKET", "IngestQueue": "INGEST_QUEUE_URL"}
_PARAMETERS = {
    "CaptureMegabytes": "CAPTURE_MEGABYTES",
    "FlowDays": "FLOW_DAYS",
    "ExistingBucket": "EXISTING_BUCKET",
}


def open_stack(name: str) -> Stack:
    """The stack of a name, in the region and with the credentials that AWS tools would use.

    Its environment has the names of `_OUTPUTS` and `_PARAMETERS`. Raises RequestError where there is none of the name,
    or one that is not ours.
    """
    with told():
        found = _described(name)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    parameters = {given["ParameterKey"]: given["ParameterValue"] for given in found.get("Parameters", [])}
    lacking = [output for output in _OUTPUTS if output not in outputs]
    if lacking:
        raise RequestError(
            f"stack {name} ({found['StackStatus']}) has no output {', '.join(lacking)}: it is none of "
            "Backscatter's, or not yet created"
        )
    environment = {variable: outputs[output] for output, variable in _OUTPUTS.items()}
    environment |= {variable: parameters[given] for given, variable in _PARAMETERS.items() if given in parameters}
    return Stack(environment)


def _described(name: str) -> Any:
    """What CloudFormation says of a stack."""
    config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.client("cloudformation", config=config).describe_stacks(StackName=name)["Stacks"][0]


def deployed_key(items: Items) -> bytes | None:
    """The deployment's key; None before the first capture. Unlike `stack.deployment_key` it writes nothing."""
    return next((cast("bytes", item["key"]) for item in items.get_all([KEY_AT])), None)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What AWS refuses, and what stands between us and it, as RequestErrors that say what to do."""
    try:
        yield
    except NoRegionError as error:
        raise RequestError("no AWS region is set: set AWS_DEFAULT_REGION, or AWS_PROFILE to one that has it") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise RequestError("no AWS credentials were found: set AWS_PROFILE, or log in with `aws sso login`") from error
    except EndpointConnectionError as error:
        raise RequestError(f"AWS cannot be reached: {error}") from error
    except ClientError as error:
        raise RequestError(_refusal(error.response, error.operation_name)) from error
    except BotoCoreError as error:
        raise RequestError(f"AWS: {error}") from error


def _refusal(response: Any, operation: str) -> str:
    code, message = (response.get("Error", {}).get(name, "") for name in ("Code", "Message"))
    if code in ("AccessDenied", "AccessDeniedException", "AccessDeniedFault", "403"):
        return f"AWS denies {operation}: {message or code}; your credentials need that permission"
    return f"AWS refuses {operation}: {message or code} ({code})"
