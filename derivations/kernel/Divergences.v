(* Gauge, homogeneity, the three divergences of the source, nonnegativity, and the smoothed target. *)
From mathcomp Require Import all_ssreflect.
From Coq Require Import Reals Lra FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
Require Import Definitions Sums Softmax.
Set Implicit Arguments.
Unset Strict Implicit.
Local Open Scope R_scope.

Section Divergences.

Variable class : finType.
Implicit Types (q p f v : class -> R) (k y : class) (phi slope : R -> R).

Lemma gauge_value q p phi c : positive q -> sum p = 1 -> sum q = 1 ->
  divergence (fun t => phi t + c * (t - 1)) q p = divergence phi q p.
Proof.
move=> qpos ptot qtot; rewrite /divergence.
rewrite (sum_ext (G := fun i => q i * phi (p i / q i) + c * (p i - q i))).
  by rewrite sum_add sum_scale sum_sub ptot qtot; ring.
by move=> i; have := qpos i; move=> ?; field; lra.
Qed.

Lemma gauge_force q p slope c k : sum p = 1 ->
  force (fun t => slope t + c) q p k = force slope q p k.
Proof.
move=> ptot; rewrite /force /weight.
rewrite (sum_ext (F := fun i => p i * (slope (p i / q i) + c)) (G := fun i => p i * slope (p i / q i) + p i * c)).
  by rewrite sum_add sum_scale_right ptot; ring.
by move=> i; ring.
Qed.

Lemma force_sums_to_zero q p slope : sum p = 1 -> sum (force slope q p) = 0.
Proof. by move=> ptot; rewrite /force sum_sub sum_scale_right ptot; ring. Qed.

Lemma weight_homogeneous q p slope (c : R) i : 0 < c -> 0 < q i ->
  weight slope (fun j => c * q j) (fun j => c * p j) i = c * weight slope q p i.
Proof.
move=> cpos qpos; rewrite /weight.
have -> : c * p i / (c * q i) = p i / q i by field; lra.
by ring.
Qed.

(* A function of p and q that is homogeneous of degree 1 is p f'(p/q), with f'(t) = w(1, 1/t). *)
Lemma homogeneous_is_weight (w : R -> R -> R) :
  (forall c a b, 0 < c -> 0 < a -> 0 < b -> w (c * a) (c * b) = c * w a b) ->
  forall a b, 0 < a -> 0 < b -> w a b = a * w 1 (/ (a / b)).
Proof.
move=> hom a b apos bpos; rewrite -hom //; last first.
  by apply: Rinv_0_lt_compat; apply: Rdiv_lt_0_compat.
  by lra.
by congr (w _ _); field; lra.
Qed.

Lemma rkl_force q p k : positive p -> positive q -> sum p = 1 -> sum q = 1 ->
  force rkl_slope q p k = p k - q k.
Proof.
move=> ppos qpos ptot qtot; rewrite /force.
have w i : weight rkl_slope q p i = - q i.
  by rewrite /weight /rkl_slope; have := ppos i; have := qpos i; move=> *; field; lra.
by rewrite w (sum_ext w) sum_opp qtot; ring.
Qed.

Lemma rkl_value q p : positive p -> positive q ->
  divergence rkl q p = - sum (fun i => q i * ln (p i)) - entropy q.
Proof.
move=> ppos qpos; rewrite /divergence /entropy /rkl -sum_opp.
rewrite (sum_ext (F := fun i => q i * - ln (p i / q i)) (G := fun i => - (q i * ln (p i)) + q i * ln (q i))).
  by rewrite sum_add; ring.
by move=> i; rewrite ln_div; [ring | apply: ppos | apply: qpos].
Qed.

Lemma fkl_value q p : positive p -> positive q ->
  divergence fkl q p = - sum (fun i => p i * ln (q i)) - entropy p.
Proof.
move=> ppos qpos; rewrite /divergence /entropy /fkl -sum_opp.
rewrite (sum_ext (G := fun i => - (p i * ln (q i)) + p i * ln (p i))).
  by rewrite sum_add; ring.
move=> i; rewrite ln_div; [| apply: ppos | apply: qpos].
by have := qpos i; move=> ?; field; lra.
Qed.

Lemma fkl_uniform p y : positive p -> sum p = 1 ->
  divergence fkl (fun=> 1 / number class) p = ln (number class) - entropy p.
Proof.
move=> ppos ptot; have npos : 0 < number class.
  by rewrite /number; apply: lt_0_INR; apply/ltP; apply/card_gt0P; exists y.
rewrite fkl_value //; last by move=> i; apply: Rdiv_lt_0_compat; lra.
by rewrite sum_scale_right ptot /Rdiv !Rmult_1_l ln_Rinv //; ring.
Qed.

Lemma smoothed_target_distribution epsilon y : 0 <= epsilon <= 1 -> distribution (smoothed_target epsilon y).
Proof.
move=> eps; have npos : 0 < number class.
  by rewrite /number; apply: lt_0_INR; apply/ltP; apply/card_gt0P; exists y.
split=> [i|].
  rewrite /smoothed_target /indicator.
  have : 0 <= (1 - epsilon) / number class by apply: Rmult_le_pos; [lra | apply: Rlt_le; apply: Rinv_0_lt_compat].
  by case: (i == y); nra.
rewrite /smoothed_target sum_add sum_const sum_indicator; by field; lra.
Qed.

(* Nonnegativity, for a generator above a line through (1, 0), strictly but at t = 1. *)
Lemma divergence_nonnegative q p phi c :
  positive q -> sum p = 1 -> sum q = 1 -> (forall t, 0 < t -> t <> 1 -> c * (t - 1) < phi t) -> phi 1 = 0 ->
  positive p -> 0 <= divergence phi q p /\ (divergence phi q p = 0 -> forall i, p i = q i).
Proof.
move=> qpos ptot qtot above at_one ppos.
have term i : 0 <= q i * phi (p i / q i) - c * (p i - q i).
  have ratio : 0 < p i / q i by apply: Rdiv_lt_0_compat.
  have -> : c * (p i - q i) = q i * (c * (p i / q i - 1)) by have := qpos i; move=> ?; field; lra.
  case: (Req_dec (p i / q i) 1) => [->|off]; first by rewrite at_one; nra.
  by have := above _ ratio off; have := qpos i; nra.
have total : sum (fun i => q i * phi (p i / q i) - c * (p i - q i)) = divergence phi q p.
  by rewrite sum_sub sum_scale sum_sub ptot qtot /divergence; ring.
split=> [|zero i]; first by rewrite -total; apply: sum_nonnegative.
rewrite zero in total; have here := sum_zero_terms i term total.
have ratio : 0 < p i / q i by apply: Rdiv_lt_0_compat.
have split_q : p i = q i * (p i / q i) by have := qpos i; move=> ?; field; lra.
case: (Req_dec (p i / q i) 1) => [one|off]; first by rewrite split_q one; ring.
have gap := above _ ratio off.
have moved : c * (p i - q i) = q i * (c * (p i / q i - 1)) by have := qpos i; move=> ?; field; lra.
by rewrite moved in here; have := qpos i; nra.
Qed.

End Divergences.

(* ln t < t - 1 but at t = 1. *)
Lemma ln_below t : 0 < t -> t <> 1 -> ln t < t - 1.
Proof.
move=> pos off; rewrite -{2}(exp_ln t pos).
have : ln t <> 0 by move=> zero; apply: off; rewrite -(exp_ln t pos) zero exp_0.
by move=> nz; have := exp_ineq1 (ln t) nz; lra.
Qed.

Lemma rkl_above t : 0 < t -> t <> 1 -> -1 * (t - 1) < rkl t.
Proof. by move=> pos off; rewrite /rkl; have := ln_below pos off; lra. Qed.

Lemma fkl_above t : 0 < t -> t <> 1 -> 1 * (t - 1) < fkl t.
Proof.
move=> pos off; rewrite /fkl.
have ipos : 0 < / t by apply: Rinv_0_lt_compat.
have ioff : / t <> 1 by move=> one; apply: off; rewrite -(Rinv_inv t) one Rinv_1.
have := ln_below ipos ioff; rewrite ln_Rinv // => h.
have : t * (- ln t) < t * (/ t - 1) by apply: Rmult_lt_compat_l.
by rewrite Rmult_minus_distr_l Rinv_r; lra.
Qed.

Lemma js_above t : 0 < t -> t <> 1 -> 0 * (t - 1) < js t.
Proof.
move=> pos off; rewrite /js.
have mpos : 0 < (t + 1) / 2 by lra.
have a : 0 < t / ((t + 1) / 2) by apply: Rdiv_lt_0_compat.
have b : 0 < 1 / ((t + 1) / 2) by apply: Rdiv_lt_0_compat; lra.
set m := (t + 1) / 2 in mpos a b *.
(* t ln(t/m) > t - m and ln(1/m) > 1 - m, by ln x < x - 1 at x = m/t and x = m. *)
have mt : m / t <> 1.
  move=> one; apply: off.
  have same : m = t by rewrite -(Rmult_1_r t) -one; field; lra.
  by rewrite /m in same; lra.
have mo : m <> 1 by rewrite /m; lra.
have h1 := ln_below (Rdiv_lt_0_compat _ _ mpos pos) mt.
have h2 := ln_below mpos mo.
rewrite ln_div // in h1.
have h3 : t * (ln m - ln t) < t * (m / t - 1) by apply: Rmult_lt_compat_l.
have e : t * (m / t - 1) = m - t by field; lra.
have total : t + 1 = 2 * m by rewrite /m; field.
rewrite -/m; rewrite e in h3; nra.
Qed.

Lemma above_tangent phi slope : strictly_convex phi -> phi 1 = 0 -> is_derive phi 1 slope ->
  forall t, 0 < t -> t <> 1 -> slope * (t - 1) < phi t.
Proof.
move=> convex zero /is_derive_Reals tangent t pos off; apply: Rnot_le_lt => low.
pose m := (1 + t) / 2; have mpos : 0 < m by rewrite /m; lra.
have moff : m <> 1 by rewrite /m; lra.
have half : 0 < 1 / 2 < 1 by lra.
have one : 0 < 1 by lra.
have chord := convex t 1 (1 / 2) pos one off half.
have same : 1 / 2 * t + (1 - 1 / 2) * 1 = m by rewrite /m; field.
rewrite same zero in chord.
pose gap := slope * (m - 1) - phi m; have gpos : 0 < gap by rewrite /gap /m in chord *; lra.
have apos : 0 < Rabs (m - 1) by apply: Rabs_pos_lt; lra.
have epos : 0 < gap / Rabs (m - 1) by apply: Rdiv_lt_0_compat.
have [delta near] := tangent _ epos.
pose share := Rmin (1 / 2) (delta / 2 / Rabs (m - 1)).
have dpos := cond_pos delta.
have spos : 0 < share by apply: Rmin_pos; [lra | apply: Rdiv_lt_0_compat; lra].
have sless : share < 1 by have := Rmin_l (1 / 2) (delta / 2 / Rabs (m - 1)); rewrite -/share; lra.
pose h := share * (m - 1).
have hnz : h <> 0 by rewrite /h => h0; case: (Rmult_integral _ _ h0); lra.
have small : Rabs h < delta.
  rewrite /h Rabs_mult (Rabs_pos_eq share); last by lra.
  have le : share <= delta / 2 / Rabs (m - 1) by apply: Rmin_r.
  have scaled : share * Rabs (m - 1) <= delta / 2 / Rabs (m - 1) * Rabs (m - 1) by apply: Rmult_le_compat_r; lra.
  have e : delta / 2 / Rabs (m - 1) * Rabs (m - 1) = delta / 2 by field; lra.
  by rewrite e in scaled; lra.
have close := near h hnz small; rewrite zero Rminus_0_r in close.
have shares : 0 < share < 1 by lra.
have below := convex m 1 share mpos one moff shares.
have place : share * m + (1 - share) * 1 = 1 + h by rewrite /h; ring.
rewrite place zero in below.
have hpos : 0 < Rabs h by apply: Rabs_pos_lt.
have far : share * gap < Rabs (phi (1 + h) - slope * h).
  have neg : phi (1 + h) - slope * h < - (share * gap) by rewrite /gap /h in below *; lra.
  have up : 0 < share * gap by nra.
  by rewrite Rabs_left; lra.
have ratio : Rabs (phi (1 + h) / h - slope) = Rabs (phi (1 + h) - slope * h) / Rabs h.
  by rewrite -Rabs_div //; congr Rabs; field.
rewrite ratio in close.
have : Rabs (phi (1 + h) - slope * h) < gap / Rabs (m - 1) * Rabs h.
  apply: (Rmult_lt_reg_r (/ Rabs h)); first exact: Rinv_0_lt_compat.
  by rewrite Rmult_assoc Rinv_r; lra.
have -> : gap / Rabs (m - 1) * Rabs h = share * gap.
  rewrite /h Rabs_mult (Rabs_pos_eq share); last by lra.
  by field; lra.
by lra.
Qed.
