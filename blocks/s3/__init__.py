"""The store on S3: requests, signatures, parts, retries, locks. Knows no incident, and reads no block."""
