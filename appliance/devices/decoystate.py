"""Rate and error rate of a fibre: weak + vacuum decoy-state BB84.

Source of the formulae: X. Ma, B. Qi, Y. Zhao, H.-K. Lo, "Practical decoy state for quantum key
distribution", Phys. Rev. A 72, 012326 (2005). Default parameters ("GYS"): C. Gobby, Z. L. Yuan, A. J.
Shields, "Quantum key distribution over 122 km of standard telecom fiber", Appl. Phys. Lett. 84, 3762 (2004).

An intensity is the mean photon number of a pulse. Gains are probabilities per pulse; error rates are
fractions of detected bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RANDOM_ERROR = 0.5  # e_0: a dark count is right half of the time


@dataclass(frozen=True)
class System:
    """A QKD system without its fibre."""

    pulse_rate_hz: float = 2e6
    attenuation_db_per_km: float = 0.21
    receiver_efficiency: float = 0.045  # eta_Bob, detector included
    dark_probability: float = 1.7e-6  # Y_0, background clicks per pulse, both detectors
    misalignment: float = 0.033  # e_detector
    correction_efficiency: float = 1.22  # f(e), times the Shannon limit
    signal_intensity: float = 0.48  # mu
    decoy_intensity: float = 0.05  # nu


GYS = System()


@dataclass(frozen=True)
class Observed:
    """What the ends measure, as fractions: gains Q and error rates E of signal, weak decoy and vacuum
    pulses."""

    signal_gain: float
    signal_error: float
    decoy_gain: float
    decoy_error: float
    vacuum_gain: float


def entropy(p: float) -> float:
    """Binary entropy H_2 in bits; 0 outside ]0, 1[."""
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p) if 0 < p < 1 else 0.0


def transmittance(system: System, distance_km: float) -> float:
    """eta = t_AB eta_Bob."""
    return system.receiver_efficiency * 10 ** (-system.attenuation_db_per_km * distance_km / 10)


def gain(system: System, eta: float, intensity: float) -> float:
    """Q = Y_0 + 1 - exp(-eta mu), probability that a pulse is detected."""
    return min(1.0, system.dark_probability - math.expm1(-eta * intensity))


def tapped_misalignment(misalignment: float, tapped: float) -> float:
    """Error of a detected photon when a fraction `tapped` of the pulses is intercepted and resent.

    The eavesdropper measures in the wrong basis half of the time, and half of these bits come out wrong: 25 %
    of the tapped ones. Where she guesses the basis, the misalignment acts as it did.
    """
    return misalignment + tapped * (0.25 - misalignment / 2)


def error_rate(system: System, eta: float, intensity: float, tapped: float = 0.0) -> float:
    """E, from E Q = e_0 Y_0 + e_detector (1 - exp(-eta mu))."""
    photon_clicks = -math.expm1(-eta * intensity)
    wrong = RANDOM_ERROR * system.dark_probability + tapped_misalignment(system.misalignment, tapped) * photon_clicks
    return wrong / (system.dark_probability + photon_clicks) if wrong else 0.0


def expected(system: System, distance_km: float, tapped: float = 0.0) -> Observed:
    """What is measured on average."""
    eta = transmittance(system, distance_km)
    mu, nu = system.signal_intensity, system.decoy_intensity
    return Observed(
        gain(system, eta, mu),
        error_rate(system, eta, mu, tapped),
        gain(system, eta, nu),
        error_rate(system, eta, nu, tapped),
        system.dark_probability,
    )


def single_photon_yield(system: System, seen: Observed) -> float:
    """Lower bound of Y_1, in [0, 1]."""
    mu, nu = system.signal_intensity, system.decoy_intensity
    bound = (
        mu
        / (mu * nu - nu**2)
        * (
            seen.decoy_gain * math.exp(nu)
            - seen.signal_gain * math.exp(mu) * (nu / mu) ** 2
            - (mu**2 - nu**2) / mu**2 * seen.vacuum_gain
        )
    )
    return min(1.0, max(0.0, bound))


def single_photon_error(system: System, seen: Observed, yield_1: float) -> float:
    """Upper bound of e_1, at most one half."""
    if yield_1 <= 0:
        return RANDOM_ERROR
    nu = system.decoy_intensity
    wrong = seen.decoy_error * seen.decoy_gain * math.exp(nu) - RANDOM_ERROR * seen.vacuum_gain
    return min(RANDOM_ERROR, max(0.0, wrong / (yield_1 * nu)))


def secret_fraction(system: System, seen: Observed) -> float:
    """Secret bits per signal pulse, R with q = 1/2; 0 where the bound is negative."""
    mu = system.signal_intensity
    yield_1 = single_photon_yield(system, seen)
    gain_1 = yield_1 * mu * math.exp(-mu)
    kept = gain_1 * (1 - entropy(single_photon_error(system, seen, yield_1)))
    leaked = seen.signal_gain * system.correction_efficiency * entropy(min(seen.signal_error, RANDOM_ERROR))
    return max(0.0, 0.5 * (kept - leaked))


def key_rate_bps(system: System, distance_km: float, tapped: float = 0.0) -> float:
    """Expected secret bits a second when all pulses are signal pulses."""
    return system.pulse_rate_hz * secret_fraction(system, expected(system, distance_km, tapped))


def longest_distance_km(system: System) -> float:
    """Where the key rate ends, to 10 m."""
    low, high = 0.0, 500.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if key_rate_bps(system, middle) > 0 else (low, middle)
    return low


def optimal_intensity(system: System) -> float:
    """mu with (1 - mu) exp(-mu) = f H_2(e_det) / (1 - H_2(e_det)): infinite decoys, small eta and Y_0."""
    h = entropy(system.misalignment)
    target = system.correction_efficiency * h / (1 - h)
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - middle) * math.exp(-middle) > target else (low, middle)
    return low
