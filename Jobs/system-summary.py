"""Prints operating system, processor, memory, uptime and network addresses as one JSON object."""
import fcntl
import ipaddress
import json
import os
import platform
import socket
import struct


def lines(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def pairs(path, separator):
    found = {}
    for line in lines(path):
        key, middle, value = line.partition(separator)
        if middle:
            found.setdefault(key.strip(), value.strip().strip("\"'"))
    return found


def operating_system():
    release = pairs("/etc/os-release", "=") or pairs("/usr/lib/os-release", "=")
    return {
        "id": release.get("ID"),
        "name": release.get("PRETTY_NAME"),
        "version": release.get("VERSION_ID"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
    }


def processor():
    info = pairs("/proc/cpuinfo", ":")
    return {
        "model": info.get("model name") or info.get("Model") or platform.processor() or None,
        "cores": os.cpu_count(),
        "usableCores": len(os.sched_getaffinity(0)),
        "load": list(os.getloadavg()),
    }


def memory():
    info = pairs("/proc/meminfo", ":")

    def size(key):
        return int(info[key].split()[0]) * 1024 if key in info else None

    return {
        "totalBytes": size("MemTotal"),
        "availableBytes": size("MemAvailable"),
        "swapTotalBytes": size("SwapTotal"),
        "swapFreeBytes": size("SwapFree"),
    }


def uptime():
    text = lines("/proc/uptime")
    return int(float(text[0].split()[0])) if text else None


def addresses_v4():
    request_address = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, request_address, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            yield name, str(ipaddress.ip_address(answer[20:24]))


def addresses_v6():
    for line in lines("/proc/net/if_inet6"):
        fields = line.split()
        if len(fields) == 6:
            yield fields[5], str(ipaddress.ip_address(bytes.fromhex(fields[0])))


def network():
    found = {name: {"addresses": [], "hardwareAddress": None} for _, name in socket.if_nameindex()}
    for name, address in [*addresses_v4(), *addresses_v6()]:
        if name in found:
            found[name]["addresses"].append(address)
    for name, interface in found.items():
        text = lines(f"/sys/class/net/{name}/address")
        interface["hardwareAddress"] = text[0] if text else None
    return found


print(
    json.dumps(
        {
            "hostname": socket.gethostname(),
            "operatingSystem": operating_system(),
            "processor": processor(),
            "memory": memory(),
            "uptimeSeconds": uptime(),
            "network": network(),
        },
        indent=2,
    )
)
