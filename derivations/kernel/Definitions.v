(* What the theorems speak of. No proofs here: read this file to know what they say. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals.
From Coquelicot Require Import Coquelicot.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Classes.

Variable class : finType.
Implicit Types (p q f : class -> R) (i j k y : class) (phi slope : R -> R).

(* The sum over all classes, and their number. *)
Definition sum (term : class -> R) : R := \big[Rplus/0]_(i : class) term i.
Definition number : R := INR #|class|.
Definition indicator (holds : bool) : R := if holds then 1 else 0.

Definition distribution p : Prop := (forall i, 0 <= p i) /\ sum p = 1.
Definition positive p : Prop := forall i, 0 < p i.

Definition softmax f i : R := exp (f i) / sum (fun j => exp (f j)).

(* D_f(q, p) = sum_i q_i f(p_i / q_i), its weights w_i = p_i f'(p_i / q_i), and w_k - p_k sum(w). *)
Definition divergence phi q p : R := sum (fun i => q i * phi (p i / q i)).
Definition weight slope q p i : R := p i * slope (p i / q i).
Definition force slope q p k : R := weight slope q p k - p k * sum (weight slope q p).

(* The target (1 - epsilon)/N + epsilon [i = y]. *)
Definition smoothed_target (epsilon : R) y i : R := (1 - epsilon) / number + epsilon * indicator (i == y).

(* log p_tau(y|x) of two temperatures, the entropy, and the score of the source. *)
Definition tempered (tau_joint tau_marginal : R) f y : R :=
  tau_joint * f y - ln (sum (fun j => exp (tau_marginal * f j))).
Definition entropy p : R := - sum (fun i => p i * ln (p i)).
Definition score (tau_joint tau_marginal alpha : R) phi q f y : R :=
  tempered tau_joint tau_marginal f y - alpha * divergence phi q (softmax f).

(* The logits with the one of class k replaced. *)
Definition with_logit f k (x : R) : class -> R := fun i => if i == k then x else f i.

End Classes.

(* Generators f(t), t = p/q, and their slopes f'(t). *)
Definition rkl (t : R) : R := - ln t.
Definition rkl_slope (t : R) : R := - / t.
Definition fkl (t : R) : R := t * ln t.
Definition fkl_slope (t : R) : R := ln t + 1.
Definition js (t : R) : R := (t * ln t - (t + 1) * ln ((t + 1) / 2)) / 2.
Definition js_slope (t : R) : R := ln (2 * t / (t + 1)) / 2.

(* The weight that the source prints for JS. *)
Definition js_printed (p q : R) : R := 2 * (q - p) / (p + q).

(* The mixture of the source: class k has the logit -|x - mean k|^2 / 2. *)
Definition mixture_logit (class axis : finType) (mean : class -> axis -> R) (x : axis -> R) (k : class) : R :=
  - sum (fun a => (x a - mean k a) ^ 2) / 2.

(* The loss that is expected of a confidence, where a share `accuracy` of the answers is right. *)
Definition smooth_error (beta r : R) : R := sqrt (r ^ 2 + beta).
Definition expected_loss (beta accuracy confidence : R) : R :=
  accuracy * smooth_error beta (confidence - 1) + (1 - accuracy) * smooth_error beta confidence.

(* Strictly below every chord. *)
Definition strictly_convex (phi : R -> R) : Prop :=
  forall a b share, 0 < a -> 0 < b -> a <> b -> 0 < share < 1 ->
    phi (share * a + (1 - share) * b) < share * phi a + (1 - share) * phi b.
