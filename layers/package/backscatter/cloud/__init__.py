"""The edges: S3, SNS, EventBridge, DynamoDB, and what the two functions do."""
