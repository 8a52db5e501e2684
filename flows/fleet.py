"""Evacuate a fleet: one order a host, one table, one signed record.

A host of a fleet is a workload, known by the name of its block. The flow reads like this: freeze the list of hosts and
write it down, order an evacuation of each, follow them until each has its end, write the record.

What is where, for those who watch or simulate it:

- On the server: the artifact `targets-ID` with the list; the variable `fleet_NAME` while the fleet's incident is open,
  which a second trigger joins; a run of `evacuate/HOST` for each host with the tag `fleet:ID`, the idempotency key
  `ID:HOST:ATTEMPT` and the parameter `order`; the concurrency limit `fleet-send-NAME`; the artifact `fleet-NAME` with
  the table.
- A host tells when it is frozen and contained by the labels `evacuation.frozen` and `evacuation.contained` of its run.
- In the store below `fleets/ID/`: `targets.json`, and `record/NNN/` with `hosts.json`, the postmortem, `closing.json`
  and its signature.
"""
