"""Linear assignment: pair the rows of a matrix with its columns so that the sum is largest."""

from rebasin_hub.assign.result import Assignment, Proof, check_certificate
from rebasin_hub.assign.solve import SOLVERS, solve_assignment

__all__ = ["SOLVERS", "Assignment", "Proof", "check_certificate", "solve_assignment"]
