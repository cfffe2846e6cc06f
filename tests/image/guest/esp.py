"""Runs in an appliance: IPsec in its kernel, keyed from pfkey.sock. `esp.py METHOD serve` and, at paris, `esp.py METHOD
ask`; METHOD: xfrm (AES-GCM, by netlink) or af_key (AES-CBC and HMAC, the message from pfkey.sock as it is).

Each end gets an SA for each direction. `ask` sends pings afterwards, and prints how many came back.
"""

import os
import socket
import struct
import subprocess
import sys
import time

from appliance.client import Add, Client
from appliance.keys import pfkey
from appliance.keys.pfkey import Ext

PARIS, VIENNA = "192.0.2.1", "192.0.2.2"
PORT = 4500
ALGORITHMS = {"xfrm": {"encrypt": 20, "auth": 0}, "af_key": {"encrypt": 12, "auth": 5}}
LIMIT_S = 120
PINGS = 3
PF_KEY, PF_KEY_V2 = 15, 2


def address(add, which):
    return str(add.sa.get(which).ip)


def by_xfrm(add):
    line = (
        f"xfrm state add src {address(add, Ext.ADDRESS_SRC)} dst {address(add, Ext.ADDRESS_DST)} proto esp "
        f"spi {add.spi:#x} mode transport aead rfc4106(gcm(aes)) 0x{add.secret.hex()} 128\n"
    )
    subprocess.run(["ip", "-batch", "-"], input=line, text=True, check=True)


def by_af_key(add):
    with socket.socket(PF_KEY, socket.SOCK_RAW, PF_KEY_V2) as kernel:
        kernel.settimeout(LIMIT_S)
        kernel.send(add.message)
        while True:
            answer = kernel.recv(4096)
            kind, number = answer[1:3]
            if kind == pfkey.MessageType.ADD:
                assert number == 0, f"the kernel refused: {os.strerror(number)}"
                return


def policies(here, there):
    lines = [
        f"xfrm policy add src {source} dst {target} proto icmp dir {direction} tmpl proto esp mode transport"
        for source, target, direction in ((here, there, "out"), (there, here, "in"))
    ]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(["xfrm policy flush", *lines, ""]), text=True, check=True)


def pings(there):
    came = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(10)
        for number in range(PINGS):
            packet = bytearray(struct.pack("!BBHHH", 8, 0, 0, 7, number) + b"across the fibre")
            total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
            total = (total & 0xFFFF) + (total >> 16)
            packet[2:4] = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
            raw.sendto(packet, (there, 0))
            try:
                while True:
                    reply = raw.recv(2048)
                    if reply[20] == 0 and reply[26:28] == struct.pack("!H", number):
                        came += 1
                        break
            except TimeoutError:
                pass
    return came


def main(method, role):
    install = by_xfrm if method == "xfrm" else by_af_key
    subprocess.run(["ip", "xfrm", "state", "flush"], check=True)
    here, there = (PARIS, VIENNA) if role == "ask" else (VIENNA, PARIS)
    with Client(timeout_s=LIMIT_S) as client:
        client.register(PORT, here, kind="esp")
        policies(here, there)
        if role == "ask":
            connection = client.connect("1.1.1.2", PORT, local_port=PORT, key_bytes=64)
            for source, target in ((here, there), (there, here)):
                with connection.association(source, target, tunnel=False, **ALGORITHMS[method]) as add:
                    install(add)
            time.sleep(3)  # the far end hears of the second one when we do
            print(pings(there))
            return
        installed = 0
        while installed < 2:
            event = client.event(4 * LIMIT_S)
            if isinstance(event, Add):
                with event:
                    install(event)
                installed += 1
        time.sleep(LIMIT_S)


main(*sys.argv[1:3])
