"""What cfn-lint looks at, and what it does not look at and yet fails at deployment or leaks in operation."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backscatter.store.items import EXPIRES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "template.yaml").read_text()
DEAD = ("IngestDeadLetters", "CorrelateDeadLetters")


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: !Ref X becomes {"Ref": "X"}, !GetAtt X.Y becomes {"GetAtt": "X.Y"}."""


def _short_form(loader, suffix, node):
    construct = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence}
    return {suffix: construct.get(type(node), loader.construct_mapping)(node)}


Loader.add_multi_constructor("!", _short_form)
TEMPLATE = yaml.load(TEXT, Loader)  # a SafeLoader
RESOURCES = TEMPLATE["Resources"]


def of_type(kind):
    return {name: body for name, body in RESOURCES.items() if body["Type"] == kind}


def properties(name):
    return RESOURCES[name]["Properties"]


def statements(kind):
    """(resource name, statement) of every policy document in resources of a type."""
    for name, body in of_type(kind).items():
        documents = [body["Properties"].get("PolicyDocument")]
        documents += [policy["PolicyDocument"] for policy in body["Properties"].get("Policies", [])]
        for document in documents:
            for statement in document["Statement"] if document else ():
                yield name, statement


def listed(value):
    return value if isinstance(value, list) else [value]


FUNCTIONS = of_type("AWS::Serverless::Function")
QUEUES = of_type("AWS::SQS::Queue")


def test_cfn_lint_finds_nothing():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), str(ROOT / "template.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_yaml_aliases_since_cloudformation_does_not_read_them():
    assert not [token for token in yaml.scan(TEXT) if isinstance(token, yaml.AnchorToken | yaml.AliasToken)]


def test_the_template_fits_into_one_request():
    assert len(TEXT.encode()) < 51_200


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_message_stays_invisible_six_times_as_long_as_its_function_may_run(name):
    timeout = TEMPLATE["Globals"]["Function"]["Timeout"]
    assert timeout <= 120
    for event in FUNCTIONS[name]["Properties"]["Events"].values():
        queue = event["Properties"]["Queue"]["GetAtt"].removesuffix(".Arn")
        assert properties(queue)["VisibilityTimeout"] >= 6 * timeout


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_message_shares_its_invocation_with_none_that_could_take_its_time_and_is_answered_for(name):
    for event in FUNCTIONS[name]["Properties"]["Events"].values():
        assert event["Type"] == "SQS"
        # What is put off five times, or killed with its mates five times, SQS gives up.
        assert event["Properties"]["BatchSize"] == 1
        assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_a_log_that_forgets_and_an_alarm_for_its_errors(name):
    log = FUNCTIONS[name]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
    assert properties(log)["RetentionInDays"] == {"Ref": "LogDays"}
    watched = [
        alarm["Properties"]["Dimensions"][0]["Value"]
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["MetricName"] == "Errors"
    ]
    assert {"Ref": name} in watched


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_names_its_environment_at_the_head_of_its_file(name):
    code = FUNCTIONS[name]["Properties"]["CodeUri"]
    head = (ROOT / code / "app.py").read_text().split('"""')[1]
    told = set(re.findall(r"^    ([A-Z_]+) ", head, re.MULTILINE))
    given = {
        *TEMPLATE["Globals"]["Function"]["Environment"]["Variables"],
        *FUNCTIONS[name]["Properties"]["Environment"]["Variables"],
    }
    assert told == {each for each in given if not each.startswith(("POWERTOOLS_", "OPENBLAS_"))}


@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_is_encrypted_and_takes_nothing_in_the_clear(name):
    assert properties(name)["SqsManagedSseEnabled"] is True
    denied = [
        resource
        for _, statement in statements("AWS::SQS::QueuePolicy")
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for resource in statement["Resource"]
    ]
    assert {"GetAtt": f"{name}.Arn"} in denied


@pytest.mark.parametrize("name", [name for name in QUEUES if name not in DEAD])
def test_a_queue_gives_up_into_a_dead_letter_queue_that_somebody_watches(name):
    redrive = properties(name)["RedrivePolicy"]
    dead = redrive["deadLetterTargetArn"]["GetAtt"].removesuffix(".Arn")
    assert 2 <= redrive["maxReceiveCount"] <= 10
    # A message keeps its age on the way: a shorter retention there would drop it unseen.
    assert properties(dead)["MessageRetentionPeriod"] >= properties(name)["MessageRetentionPeriod"]
    alarms = [alarm["Properties"] for alarm in of_type("AWS::CloudWatch::Alarm").values()]
    assert any(
        alarm["Dimensions"][0]["Value"] == {"GetAtt": f"{dead}.QueueName"} and alarm["AlarmActions"] for alarm in alarms
    )


@pytest.mark.parametrize("name", of_type("AWS::Events::Rule"))
def test_every_rule_may_send_to_its_queue_and_loses_nothing_that_it_cannot_send(name):
    for target in properties(name)["Targets"]:
        allowed = [
            statement
            for _, statement in statements("AWS::SQS::QueuePolicy")
            if statement["Effect"] == "Allow" and target["Arn"] in statement["Resource"]
        ]
        (statement,) = allowed
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        senders = listed(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        # a rule that is there on a condition may send on the same one
        condition = RESOURCES[name].get("Condition")
        sender = {"GetAtt": f"{name}.Arn"}
        assert (sender if condition is None else {"If": [condition, sender, {"Ref": "AWS::NoValue"}]}) in senders
        assert target["DeadLetterConfig"]["Arn"] in statement["Resource"]


@pytest.mark.parametrize("name", of_type("AWS::S3::Bucket"))
def test_a_bucket_is_encrypted_private_and_forgets(name):
    bucket = properties(name)
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert {"ExpirationInDays", "AbortIncompleteMultipartUpload"} <= set(rule)
    assert ("NoncurrentVersionExpiration" in rule) == ("VersioningConfiguration" in bucket)
    denied = [s for _, s in statements("AWS::S3::BucketPolicy") if s["Effect"] == "Deny"]
    (over_tls,) = [s for s in denied if {"GetAtt": f"{name}.Arn"} in s["Resource"]]
    assert over_tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_a_key_that_is_uploaded_again_does_not_take_away_what_a_verdict_stands_on():
    assert properties("CaptureBucket")["VersioningConfiguration"] == {"Status": "Enabled"}


def test_no_bucket_names_a_queue_or_function_that_names_the_bucket():
    for name, bucket in of_type("AWS::S3::Bucket").items():
        assert set(bucket["Properties"].get("NotificationConfiguration", ())) <= {"EventBridgeConfiguration"}, name


def test_the_table_expires_items_by_the_attribute_that_the_store_writes():
    (table,) = of_type("AWS::DynamoDB::Table").values()
    assert table["Properties"]["TimeToLiveSpecification"] == {"AttributeName": EXPIRES, "Enabled": True}
    assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert table["Properties"]["SSESpecification"]["SSEEnabled"] is True
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("name", ["CaptureBucket", "Table"])
def test_evidence_outlives_the_stack(name):
    assert RESOURCES[name]["DeletionPolicy"] == RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", of_type("AWS::SNS::Topic"))
def test_a_topic_is_encrypted_and_takes_nothing_in_the_clear(name):
    assert properties(name)["KmsMasterKeyId"] == {"Ref": "NoticeKey"}
    denied = [s for _, s in statements("AWS::SNS::TopicPolicy") if s["Effect"] == "Deny"]
    assert any({"Ref": name} in statement["Resource"] for statement in denied)


def test_no_role_is_given_a_wildcard():
    roles = list(statements("AWS::IAM::Role"))
    assert roles
    for name, statement in roles:
        assert statement["Effect"] == "Allow", name
        assert not [action for action in listed(statement["Action"]) if "*" in action], name
        if statement["Action"] == "ec2:DescribeNetworkInterfaces":
            # The one action here for which IAM knows no resource: what narrows it is the region, and that it only reads.
            assert statement["Resource"] == "*"
            assert statement["Condition"] == {"StringEquals": {"ec2:Region": {"Ref": "AWS::Region"}}}
            continue
        for resource in listed(statement["Resource"]):
            # Objects of one bucket is as narrow as S3 gets; everything else is one resource.
            of_bucket = [{"Sub": f"${{{bucket}.Arn}}/*"} for bucket in of_type("AWS::S3::Bucket")]
            assert resource in of_bucket or "*" not in json.dumps(resource), name


def test_functions_use_our_roles_so_that_sam_adds_none_of_its_managed_policies():
    for name, function in FUNCTIONS.items():
        role = function["Properties"]["Role"]["GetAtt"].removesuffix(".Arn")
        assert "ManagedPolicyArns" not in properties(role), name
        assert "Policies" not in function["Properties"], name


def test_whoever_is_invited_by_a_policy_is_a_service_of_this_account_or_rule():
    for kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy"):
        for name, statement in statements(kind):
            if statement["Effect"] == "Allow":
                assert set(statement["Principal"]) == {"Service"}, name
                assert statement["Condition"], name


def test_mail_is_subscribed_only_where_an_address_is_given():
    subscriptions = of_type("AWS::SNS::Subscription")
    assert len(subscriptions) == 2
    assert {body["Condition"] for body in subscriptions.values()} == {"HasEmail"}
    assert TEMPLATE["Parameters"]["AlertEmail"]["Default"] == ""


@pytest.mark.parametrize("name", of_type("AWS::Serverless::LayerVersion"))
def test_a_layer_is_built_by_the_target_of_its_makefile(name):
    layer = RESOURCES[name]
    assert layer["Metadata"] == {"BuildMethod": "makefile"}
    recipe = (ROOT / layer["Properties"]["ContentUri"] / "Makefile").read_text()
    assert f"\nbuild-{name}:" in recipe
