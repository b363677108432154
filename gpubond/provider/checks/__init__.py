# SPDX-License-Identifier: Apache-2.0
"""What `gpubond provider doctor` looks at: one registry of checks, each with its remedy."""

from __future__ import annotations

from gpubond.provider.checks import certificate, chain, gateway, machine, setup, standing
from gpubond.provider.checks.check import Check

# In order; a check comes after those that it needs.
CHECKS: tuple[Check, ...] = (
    Check("settings", "settings file", setup.settings),
    Check("policy", "policy fits the offer", setup.policy, needs=("settings",)),
    Check("key", "operator's key file", setup.operator_key, needs=("settings",)),
    Check("owner-key", "owner's key file", setup.owner_key, needs=("settings",)),
    Check("note-key", "key for buyers' notes", setup.note_key, needs=("settings",)),
    Check("store", "home folder and store", setup.store, needs=("settings",)),
    Check("disk", "disk space", machine.disk, needs=("settings",)),
    Check("memory", "memory", machine.memory, needs=("settings",)),
    Check("sandbox", "sandbox", machine.sandbox, needs=("settings", "store")),
    Check("containers", "containers", machine.containers, needs=("settings", "store")),
    Check("gpu", "driver and GPU", machine.gpu, needs=("settings",)),
    Check("deployment", "deployment file", chain.deployment_file, needs=("settings",)),
    Check("node", "node", chain.node, needs=("settings",)),
    Check("clock", "clock against the chain's", chain.clock, needs=("node",)),
    Check("chain-id", "chain id", chain.chain_id, needs=("node", "deployment")),
    Check("contracts", "contracts' code", chain.contracts, needs=("chain-id",)),
    Check("gas-operator", "operator's gas money", chain.operator_gas, needs=("key", "chain-id")),
    Check("gas-answers", "gas money for answers to challenges", chain.answer_gas, needs=("key", "chain-id")),
    Check("gas-owner", "owner's gas money", chain.owner_gas, needs=("chain-id",)),
    Check("registered", "registration and operator", standing.registered, needs=("key", "contracts")),
    Check("endpoint", "what is announced", standing.endpoint, needs=("registered", "store", "note-key")),
    Check("stake", "stake", standing.stake, needs=("contracts",)),
    Check("allowance", "allowance", standing.allowance, needs=("registered", "stake")),
    Check("offer", "offer", standing.offer, needs=("registered", "store")),
    Check("exact-offer", "offer of tier EXACT", standing.exact_offer, needs=("registered", "store")),
    Check("certificate", "gateway's certificate", certificate.certificate, needs=("settings",)),
    Check("port", "gateway's port", gateway.port, needs=("settings",)),
    Check("gateway", "gateway's announced address", gateway.reachable, needs=("port", "certificate")),
)
