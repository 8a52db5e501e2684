"""What the product costs, measured beside a peer in the same run. Not in the wheel; no product code imports it."""
